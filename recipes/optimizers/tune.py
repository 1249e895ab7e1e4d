"""The rate of each optimizer on each problem: python -m recipes.optimizers.tune

Every optimizer has as many trials, all with one seed that is reported nowhere and on data held out for this alone. The best is the one with the least loss.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from ..evidence import CONSOLE, keep
from .contenders import CONTENDERS, RATES
from .problems import PROBLEMS
from .training import train

SEED = 1000
TUNING = Path(__file__).parent / "tuning.json"


def best(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """The trial that came to the least loss on what is held out for tuning.

    Raises:
        ValueError: All of them went astray.
    """
    sound = [trial for trial in trials if trial["loss"] is not None]
    if not sound:
        raise ValueError(f"each of the rates {', '.join(str(trial['lr']) for trial in trials)} went astray; try lower ones.")
    return min(sound, key=lambda trial: trial["loss"])


def main(out: Annotated[Path, typer.Option(help="File for the trials; those that it holds are not repeated.")] = TUNING) -> None:
    """Train each optimizer at each of its rates."""
    torch.set_num_threads(1)
    results = json.loads(out.read_text()) if out.exists() else {"seed": SEED, "trials": {}}
    begun = time.perf_counter() - results.get("seconds", 0)
    for problem_name, problem in PROBLEMS.items():
        for name in CONTENDERS:
            trials = results["trials"].setdefault(problem_name, {}).setdefault(name, [])
            for lr in RATES[name]:
                if (lr, problem.updates) in [(trial["lr"], trial["updates"]) for trial in trials]:
                    continue
                trials[:] = [trial for trial in trials if trial["lr"] != lr]
                trial = train(problem, name, lr, SEED, "tuning")
                del trial["curve"]
                trials.append(trial)
                trials.sort(key=lambda trial: trial["lr"])
                CONSOLE.print(f"{problem_name}, {name}: {trial}")
                keep(out, results, begun)


if __name__ == "__main__":
    typer.run(main)
