"""The optimizer of a run, and its state as tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .run import Schedule

_OF_RATES = (".gates.", ".log_rate", ".memory.biases.", ".to_momentum.")


def optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """AdamW in which what makes inner rates, the gates of memories and the rates of levels, learns at a rate of its own, and only matrices of slow
    weights decay.

    Each group carries its highest rate as ``peak``.

    Examples:
        >>> [group["peak"] for group in optimizer(nn.Linear(2, 2), Schedule(lr=0.1)).param_groups]
        [0.1, 0.1]
    """
    groups: dict[str, list[nn.Parameter]] = {"decay": [], "free": [], "gates": []}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            kind = "gates" if any(part in name for part in _OF_RATES) else "free" if weight.ndim < 2 or ".initial." in name else "decay"
            groups[kind].append(weight)
    rates = {"decay": schedule.lr, "free": schedule.lr, "gates": schedule.gate_lr}
    decay = {"decay": schedule.weight_decay, "free": 0.0, "gates": 0.0}
    found = [{"params": weights, "lr": rates[kind], "peak": rates[kind], "weight_decay": decay[kind]} for kind, weights in groups.items() if weights]
    return torch.optim.AdamW(found, betas=schedule.betas)


def optimizer_tensors(learner: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of each weight, by the weight's number and the part's name."""
    return {f"{i}/{part}": value for i, slot in learner.state_dict()["state"].items() for part, value in slot.items()}


def restore_optimizer(learner: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of ``optimizer_tensors``."""
    slots: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        i, part = key.split("/")
        slots.setdefault(int(i), {})[part] = value
    learner.load_state_dict({**learner.state_dict(), "state": slots})
