"""What is kept of a stream of tensors: its sum or its decayed average, and how many there were."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from retain.core.trees import stretch

from .optimizer import check_choice, check_share

Accumulate = Literal["ema", "sum"]
Moment = Literal["corrected", "ema", "sum"]


def accumulated(kept: Tensor, new: Tensor, beta: float, how: Accumulate) -> Tensor:
    r"""$\beta a + (1 - \beta) x$ for an average, $a + \beta x$ for a sum."""
    return kept.lerp(new, 1 - beta) if how == "ema" else kept + beta * new


def counter(weight: Tensor, lead: int) -> Tensor:
    """No steps so far, one count for each weight. A single count stays on the CPU, where reading it makes no device wait."""
    return torch.zeros(weight.shape[:lead], dtype=torch.int64, device=weight.device if lead else "cpu")


def corrected(average: Tensor, beta: float, steps: Tensor) -> Tensor:
    r"""$a / (1 - \beta^t)$: an average that began at zero, as if its weights had summed to one all along."""
    share = 1 - beta ** steps.double()
    return average / (stretch(share, average).to(average.dtype) if share.ndim else share)


def accumulate_all(kept: list[Tensor], new: list[Tensor], beta: float, how: Moment) -> None:
    """``accumulated`` for a list, in place."""
    if how == "sum":
        torch._foreach_add_(kept, new, alpha=beta)
    else:
        torch._foreach_lerp_(kept, new, 1 - beta)


def accumulate_squares_of_all(kept: list[Tensor], new: list[Tensor], beta: float, how: Moment) -> None:
    """``accumulated`` for the squares of a list, in place."""
    if how != "sum":
        torch._foreach_mul_(kept, beta)
    torch._foreach_addcmul_(kept, new, new, value=beta if how == "sum" else 1 - beta)


def corrections(beta: float, steps: list[Tensor]) -> list[float]:
    r"""$1 - \beta^t$ for each of a list of single weights."""
    return [1 - beta ** int(step) for step in steps]


def moment(kept: Tensor, new: Tensor, beta: float, how: Moment, steps: Tensor) -> tuple[Tensor, Tensor]:
    """What is kept with the new one in it, and what is made of it: the same, or corrected for its start."""
    after = accumulated(kept, new, beta, "sum" if how == "sum" else "ema")
    return after, corrected(after, beta, steps) if how == "corrected" else after


def check_moments(owner: str, options: Mapping[str, Any]) -> None:
    """Refuse betas that do not fit what is made with them.

    Raises:
        ValueError: The message names the one.
    """
    for place, (name, beta) in enumerate(zip(("momentum", "squares"), options["betas"], strict=True)):
        check_choice(f"{owner}.{name}", options[name], Moment)
        if options[name] != "sum":
            check_share(f"{owner}.betas[{place}]", beta)
        elif beta <= 0:
            raise ValueError(f"{owner}.betas[{place}] must be positive, since {name} is a sum, got {beta!r}.")
