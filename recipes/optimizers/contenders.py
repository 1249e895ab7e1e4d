"""The optimizers that are compared. They differ in what moves the matrices inside a model's layers."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.optim import AdamW, Optimizer

from retain.optim import M3, Muon, NewtonSchulz, SlowMomentum

WEIGHT_DECAY = 0.1
"""Of the matrices inside layers, times the learning rate; nothing else decays."""

Weights = list[nn.Parameter]


def parted(model: nn.Module) -> tuple[Weights, Weights]:
    """The matrices inside the layers, and all the rest: embeddings, the head, and whatever is a vector."""
    matrices = {name for name, weight in model.named_parameters() if ".layers." in f".{name}" and weight.ndim == 2}
    named = list(model.named_parameters())
    return [weight for name, weight in named if name in matrices], [weight for name, weight in named if name not in matrices]


def adamw(matrices: Weights, rest: Weights, lr: float) -> list[Optimizer]:
    """torch's AdamW for everything."""
    return [AdamW([{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": rest, "weight_decay": 0.0}], lr=lr)]


def muon(matrices: Weights, rest: Weights, lr: float) -> list[Optimizer]:
    """Muon for the matrices, its steps as long as AdamW's are, and AdamW at the same rate for the rest."""
    scaled = NewtonSchulz(scale="match_rms_adamw")
    return [Muon(matrices, lr=lr, nesterov=True, orthogonal=scaled, weight_decay=WEIGHT_DECAY), AdamW(rest, lr=lr, weight_decay=0.0)]


def m3(matrices: Weights, rest: Weights, lr: float) -> list[Optimizer]:
    """M3 with its defaults for everything; what is not a matrix inside a layer moves without Newton-Schulz."""
    return [M3([{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": rest, "orthogonal": None}], lr=lr)]


def m3_fast_alone(matrices: Weights, rest: Weights, lr: float) -> list[Optimizer]:
    """M3 whose slow memory counts for nothing."""
    return [M3([{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": rest, "orthogonal": None}], lr=lr, slow=SlowMomentum(alpha=0.0))]


def m3_as_printed(matrices: Weights, rest: Weights, lr: float) -> list[Optimizer]:
    """Algorithm 1 to the letter for the matrices, and AdamW at a rate that stands for the rest, of which the paper says nothing."""
    return [M3(matrices, lr=lr, accumulate="sum", weight_decay=WEIGHT_DECAY), AdamW(rest, lr=4e-3, weight_decay=0.0)]


CONTENDERS: dict[str, Callable[[Weights, Weights, float], list[Optimizer]]] = {
    "AdamW": adamw,
    "Muon": muon,
    "M3": m3,
    "M3, fast memory alone": m3_fast_alone,
    "M3, as printed": m3_as_printed,
}
RATES = {
    "AdamW": (2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2),
    "Muon": (4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2),
    "M3": (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2),
    "M3, fast memory alone": (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2),
    "M3, as printed": (3e-5, 1e-4, 3e-4, 1e-3, 3e-3),
}
"""The rates that are tried for each, as many for one as for the other."""
