"""Every optimizer, with options of all kinds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from retain.optim import (
    M3,
    AbstractOptimizer,
    AdamAsMemory,
    DeepMomentum,
    DeltaMomentum,
    FeatureMapMomentum,
    GradientDescent,
    LearnedPreconditioner,
    MatrixAdaGrad,
    Momentum,
    Muon,
    NewtonSchulz,
    PreconditionedMomentum,
    SlowMomentum,
)


@dataclass(frozen=True)
class Case:
    """An optimizer, its options, a rate at which it should learn, and whether it comes to rest at a minimum."""

    kind: type[AbstractOptimizer]
    lr: float
    options: dict[str, Any] = field(default_factory=dict)
    rests: bool = True

    @property
    def all_options(self) -> dict[str, Any]:
        return self.kind.options(lr=self.lr, **self.options)

    def made(self, params: Any, **others: Any) -> AbstractOptimizer:
        return self.kind(params, **{"lr": self.lr, **self.options, **others})

    def __str__(self) -> str:
        said = ",".join(f"{name}={getattr(value, '__name__', value)}" for name, value in self.options.items())
        return f"{self.kind.__name__}({said})".replace("'", "")


def halved(gradient: Tensor) -> Tensor:
    return gradient / 2


def squashed(gradient: Tensor) -> Tensor:
    return torch.tanh(gradient)


CASES = (
    Case(GradientDescent, 0.2),
    Case(Momentum, 0.05),
    Case(PreconditionedMomentum, 0.003),
    Case(PreconditionedMomentum, 0.1, {"precondition": halved}),
    Case(DeltaMomentum, 0.05),
    Case(DeltaMomentum, 0.05, {"decay_lr": 1.0, "limit": 1.0}),
    Case(DeltaMomentum, 0.05, {"granularity": "elementwise", "precondition": halved}),
    Case(DeltaMomentum, 0.05, {"granularity": "scalar"}),
    Case(DeepMomentum, 0.2),
    Case(DeepMomentum, 0.6, {"objective": "l2", "residual": False, "hidden": 8}),
    Case(DeepMomentum, 0.03, {"output": "newton_schulz"}),
    Case(DeepMomentum, 0.03, {"objective": "sum", "residual": False}, rests=False),
    Case(FeatureMapMomentum, 0.01),
    Case(FeatureMapMomentum, 0.05, {"features": squashed, "precondition": halved}),
    Case(Muon, 0.02),
    Case(Muon, 0.06, {"nesterov": True, "orthogonal": NewtonSchulz("cubic", 9, "match_rms_adamw"), "weight_decay": 0.001}),
    Case(Muon, 0.5, {"orthogonal": None}),
    Case(LearnedPreconditioner, 0.02),
    Case(LearnedPreconditioner, 0.02, {"structure": "matrix"}),
    Case(AdamAsMemory, 0.02),
    Case(AdamAsMemory, 0.1, {"momentum": "sum", "squares": "sum", "betas": (0.1, 0.5), "ridge": 0.1}, rests=False),
    Case(AdamAsMemory, 0.5, {"momentum": "ema", "squares": "ema", "target": "squares"}),
    Case(MatrixAdaGrad, 0.3),
    Case(MatrixAdaGrad, 0.02, {"momentum": "corrected", "squares": "corrected", "betas": (0.9, 0.99)}),
    Case(M3, 0.02, {"slow": SlowMomentum(every=3)}),
    Case(M3, 0.05, {"slow": SlowMomentum(0.5, 2, 0.5), "accumulate": "sum", "weight_decay": 0.001}, rests=False),
    Case(M3, 0.02, {"slow": SlowMomentum(every=3), "orthogonal": None}),
)
EVERY = pytest.mark.parametrize("case", CASES, ids=str)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
