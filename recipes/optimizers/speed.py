"""What an update of each optimizer takes, side by side in one run: python -m recipes.optimizers.speed --out recipes/optimizers

Seconds are the processor's: there is one thread, and what else the machine does has no part in them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch.optim import Optimizer

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
    """Time the steps of all optimizers in turns, and the passes before them; two rounds do not count, of the others the medians do."""
    torch.set_num_threads(1)
    begun, rows = time.perf_counter(), []
    for problem_name, problem in PROBLEMS.items():
        calls, count = {"passes": reading(problem)}, {"passes": 1}
        for name, make in CONTENDERS.items():
            torch.manual_seed(0)
            model = problem.model()
            problem.loss(model, *problem.batch(torch.Generator().manual_seed(0))).backward()
            calls[name], count[name] = steps(make(*parted(model), RATES[name][0])), STEPS
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(2 + REPEATS):
            for name, call in calls.items():
                start = time.process_time()
                call()
                taken[name].append((time.process_time() - start) / count[name])
        for name, seconds in taken.items():
            rows.append({"problem": problem_name, "what": name, "ms": 1e3 * statistics.median(seconds[2:]), "seconds": seconds})
            CONSOLE.print(f"{problem_name}, {name}: {rows[-1]['ms']:.2f} ms")
    keep(out / "speed.json", {"steps": STEPS, "rows": rows}, begun)


if __name__ == "__main__":
    typer.run(main)
