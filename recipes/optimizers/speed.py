"""What an update of each optimizer takes, side by side in one run: python -m recipes.optimizers.speed --out recipes/optimizers"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch.optim import Optimizer

from retain.benchmark.timing import in_turns
from retain.optim import SlowMomentum

from ..evidence import CONSOLE, keep
from .contenders import CONTENDERS, RATES, parted
from .problems import PROBLEMS, AbstractProblem

STEPS = SlowMomentum().every
"""Steps of a turn: in so many M3 moves its slow memory once."""
REPEATS = 15


def steps(optimizers: list[Optimizer]) -> Callable[[], None]:
    """A turn of an optimizer, with gradients that stand still."""

    def call() -> None:
        for _ in range(STEPS):
            for optimizer in optimizers:
                optimizer.step()

    return call


def reading(problem: AbstractProblem) -> Callable[[], None]:
    """What is the same for all: a forward and a backward pass."""
    torch.manual_seed(0)
    model, batch = problem.model(), problem.batch(torch.Generator().manual_seed(0))

    def call() -> None:
        model.zero_grad()
        problem.loss(model, *batch).backward()

    return call


def main(out: Annotated[Path, typer.Option(help="Folder for speed.json.")]) -> None:
    """Time the steps of all optimizers in turns, and the passes before them, and keep the medians."""
    torch.set_num_threads(1)
    begun, rows = time.perf_counter(), []
    for problem_name, problem in PROBLEMS.items():
        calls, count = {"passes": reading(problem)}, {"passes": 1}
        for name, make in CONTENDERS.items():
            torch.manual_seed(0)
            model = problem.model()
            problem.loss(model, *problem.batch(torch.Generator().manual_seed(0))).backward()
            calls[name], count[name] = steps(make(*parted(model), RATES[name][0])), STEPS
        times = in_turns(calls, REPEATS, 2, lambda done, note: None, turn=0.0)
        for name, taken in times.items():
            seconds = [each / count[name] for each in taken.seconds]
            rows.append({"problem": problem_name, "what": name, "ms": 1e3 * taken.median / count[name], "seconds": seconds})
            CONSOLE.print(f"{problem_name}, {name}: {rows[-1]['ms']:.2f} ms")
    keep(out / "speed.json", {"steps": STEPS, "rows": rows}, begun)


if __name__ == "__main__":
    typer.run(main)
