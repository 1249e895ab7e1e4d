"""What a step of M3 costs, against Muon's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from retain.optim import M3, Muon, SlowMomentum

from .job import JobFailed
from .plan import Plan
from .timing import Watch, in_turns

LAYERS, WIDTH, WIDER = 2, 256, 4
STEPS = SlowMomentum().every
"""Steps of a call: in so many M3 moves its slow memory once."""
AT_MOST = 1.5
"""Times a Muon's time."""


def measure_optimizers(plan: Plan, watch: Watch) -> dict[str, Any]:
    """Steps of each optimizer in turns, on matrices of its own and gradients that all share.

    Raises:
        JobFailed: This torch has no Muon.
    """
    if not hasattr(torch.optim, "Muon"):
        raise JobFailed(f"torch.optim.Muon is what M3 is measured against, and torch {torch.__version__} has none. Cure: pip install 'torch>=2.9'.")
    width, source = WIDTH // 4 if plan.quick else WIDTH, torch.Generator().manual_seed(0)
    shapes = LAYERS * [*4 * [(width, width)], (WIDER * width, width), (width, WIDER * width)]
    numbers = [[torch.randn(shape, generator=source) for shape in shapes] for _ in range(2)]
    made: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
        "torch's AdamW": lambda weights: torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.1),
        "torch's Muon": lambda weights: torch.optim.Muon(weights, lr=1e-3, weight_decay=0.1),
        "Muon": lambda weights: Muon(weights, lr=1e-3, weight_decay=0.1, nesterov=True),
        "M3": lambda weights: M3(weights, lr=1e-3, weight_decay=0.1),
    }
    times = in_turns({name: _steps(make, *numbers) for name, make in made.items()}, plan.repeats, plan.warm_ups, watch)
    rows = []
    for name, taken in times.items():
        row: dict[str, Any] = {"optimizer": name, "seconds_per_step": taken.median / STEPS}
        row |= {"min": min(taken.seconds) / STEPS, "max": max(taken.seconds) / STEPS}
        if name != "M3":
            row["m3_takes"] = times["M3"].median / taken.median
            row["reached"] = row["m3_takes"] <= AT_MOST if "Muon" in name else None
        rows.append(row)
    what = f"{len(shapes)} matrices, those of {LAYERS} layers of width {width}; a call is {STEPS} steps, of which the last moves M3's slow memory"
    return {"what": what, "target": AT_MOST, "rows": rows}


def _steps(make: Callable[[list[nn.Parameter]], Optimizer], starts: list[torch.Tensor], gradients: list[torch.Tensor]) -> Callable[[], None]:
    weights = [nn.Parameter(start.clone()) for start in starts]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    optimizer = make(weights)

    def call() -> None:
        for _ in range(STEPS):
            optimizer.step()

    return call
