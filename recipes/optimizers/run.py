"""M3, Muon and AdamW, each at its best rate: a language model and a vision transformer.

python -m recipes.optimizers.run --seed 0 --out recipes/optimizers/seed-0
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from ..evidence import CONSOLE, keep
from .contenders import CONTENDERS
from .problems import PROBLEMS
from .training import train
from .tune import TUNING, best


def main(
    out: Annotated[Path, typer.Option(help="Folder for the results; trainings that it holds are not repeated.")],
    seed: Annotated[int, typer.Option(help="Of weights and batches.")] = 0,
) -> None:
    """Train each optimizer on each problem at the rate that was best for it in tuning."""
    torch.set_num_threads(1)
    tuned = json.loads(TUNING.read_text())["trials"]
    for problem_name, problem in PROBLEMS.items():
        path = out / f"{problem_name}.json"
        results = json.loads(path.read_text()) if path.exists() else {"seed": seed, "optimizers": {}}
        begun = time.perf_counter() - results.get("seconds", 0)
        for name in CONTENDERS:
            lr, kept = best(tuned[problem_name][name])["lr"], results["optimizers"].get(name, {})
            if (kept.get("lr"), kept.get("updates")) == (lr, problem.updates):
                continue
            found = results["optimizers"][name] = train(problem, name, lr, seed, "test")
            CONSOLE.print(f"{problem_name}, {name} at {lr:g}: loss {found['loss']}, right {found['right']}, {found['seconds']:.0f} s")
            keep(path, results, begun)


if __name__ == "__main__":
    typer.run(main)
