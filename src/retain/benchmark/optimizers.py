"""What a step of M3 costs, against Muon's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from retain.optim import M3, Muon, NewtonSchulz, SlowMomentum

from .job import JobFailed
from .plan import Plan
from .timing import Watch, in_turns

LAYERS, WIDTH, WIDER = 2, 256, 4
STEPS = SlowMomentum().every
"""Steps of a call: in so many M3 moves its slow memory once."""
AT_MOST = 1.5
"""Times a Muon's time."""
_HALF = NewtonSchulz(precision="bfloat16")
MADE: dict[tuple[str, str], Callable[[list[nn.Parameter]], Optimizer]] = {
    ("torch's Muon", "bfloat16"): lambda weights: torch.optim.Muon(weights, lr=1e-3, weight_decay=0.1),
    ("Muon", "bfloat16"): lambda weights: Muon(weights, lr=1e-3, weight_decay=0.1, nesterov=True, orthogonal=_HALF),
    ("M3", "bfloat16"): lambda weights: M3(weights, lr=1e-3, weight_decay=0.1, orthogonal=_HALF),
    ("Muon", "float32"): lambda weights: Muon(weights, lr=1e-3, weight_decay=0.1, nesterov=True),
    ("M3", "float32"): lambda weights: M3(weights, lr=1e-3, weight_decay=0.1),
}
"""By name, and what the products of Newton and Schulz' iteration are computed in, which torch's Muon leaves no choice of."""


def measure_optimizers(plan: Plan, watch: Watch) -> dict[str, Any]:
    """Steps of each optimizer in turns, on matrices of its own and gradients that all share.

    Raises:
        JobFailed: This torch has no Muon.
    """
    if not hasattr(torch.optim, "Muon"):
        raise JobFailed(f"torch.optim.Muon is what M3 is measured against, and torch {torch.__version__} has none. Cure: pip install 'torch>=2.9'.")
    width, source = WIDTH // 4 if plan.quick else WIDTH, torch.Generator().manual_seed(0)
    shapes = LAYERS * [*4 * [(width, width)], (WIDER * width, width), (width, WIDER * width)]
    starts, gradients = ([torch.randn(shape, generator=source) for shape in shapes] for _ in range(2))
    calls = {" in ".join(which): _steps(make, starts, gradients) for which, make in MADE.items()}
    times = in_turns(calls, plan.repeats, plan.warm_ups, watch)
    rows = []
    for (name, products), taken in zip(MADE, times.values(), strict=True):
        row: dict[str, Any] = {"optimizer": name, "products": products, "seconds_per_step": taken.median / STEPS}
        row |= {"min": min(taken.seconds) / STEPS, "max": max(taken.seconds) / STEPS}
        if name != "M3":
            slower = times[f"M3 in {products}"].median / taken.median
            row |= {"m3_takes": slower, "reached": slower <= AT_MOST}
        rows.append(row)
    what = f"{len(shapes)} matrices, those of {LAYERS} layers of width {width}; a call is {STEPS} steps, the last of which moves M3's slow memory"
    return {"what": what, "target": AT_MOST, "rows": rows}


def _steps(make: Callable[[list[nn.Parameter]], Optimizer], starts: list[Tensor], gradients: list[Tensor]) -> Callable[[], None]:
    weights = [nn.Parameter(start.clone()) for start in starts]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    optimizer = make(weights)

    def call() -> None:
        for _ in range(STEPS):
            optimizer.step()

    return call
