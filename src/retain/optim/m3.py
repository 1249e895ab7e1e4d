"""Multi-scale Momentum Muon: two memories of gradients, a fast and a slow one."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from retain.core.trees import stretch

from .averages import Accumulate, accumulate_all, accumulate_squares_of_all, accumulated, corrected, corrections, counter
from .matrices import root
from .optimizer import AbstractOptimizer, State, check_choice, check_share
from .orthogonal import NewtonSchulz, Scale, check_orthogonal, direction


class SlowMomentum(NamedTuple):
    r"""The slow memory of ``M3``.

    Args:
        alpha: $\alpha$, how much its direction counts beside the fast one's.
        every: $f$, the steps between two of its own.
        beta: $\beta_3$.

    Examples:
        >>> SlowMomentum(every=100)
        SlowMomentum(alpha=0.5, every=100, beta=0.9)
    """

    alpha: float = 0.5
    every: int = 10
    beta: float = 0.9


class M3(AbstractOptimizer):
    r"""$W_t = (1 - \eta\lambda) W_{t-1} - \eta\,(O^{(1)}_t + \alpha\,O^{(2)}_t) / (\sqrt{V_t} + \epsilon)$ with $O^{(i)} = \mathrm{NewtonSchulz}(M^{(i)})$.

    The fast memory $M^{(1)}$ and the squares $V$ take in every gradient, the slow memory $M^{(2)}$ each $f$ steps the gradients of these; $O^{(2)}$ is
    computed then alone and stands until the next time. There are two readings:

    * ``"ema"``: all three are decayed averages, corrected for their start as in Adam, $M \leftarrow \beta M + (1 - \beta) g$, and the slow memory takes in the
      mean of its gradients. An orthogonal matrix gets the norm of the momentum that it is made of, so that ``lr`` means what Adam's means; with
      ``orthogonal=None`` and $\alpha = 0$ this is ``torch.optim.Adam``. ``NewtonSchulz(scale="none")`` takes it as it is, and the length of a step then goes with
      the inverse of the gradient's.
    * ``"sum"``: the paper's Algorithm 1 as printed, $M \leftarrow M + \beta g$, nothing decays, and nothing is rescaled. There $\beta_1$ and $\beta_3$ change
      nothing for a matrix and $\beta_2$ only the rate; steps get shorter with the root of their number.

    Vectors and numbers know no Newton-Schulz: $O = M$ for them, so they move as in Adam, with a second, slower momentum. Give embeddings a group with
    ``orthogonal=None`` to move them so, too. A weight of more than two axes is a matrix of its first against the others.
    Source: Nested Learning equation 75 and Algorithm 1.

    Args:
        params: As in every ``torch.optim.Optimizer``.
        lr: $\eta$.
        betas: $\beta_1$ of the fast memory and $\beta_2$ of the squares.
        slow: $\alpha$, $f$ and $\beta_3$ of the slow one.
        eps: $\epsilon$.
        accumulate: The reading.
        orthogonal: The iteration, at the scale ``"norm"`` of averages and ``"none"`` of sums if it says none; None for none at all.
        weight_decay: $\lambda$, apart from the gradient.

    Raises:
        ValueError: A number is out of its range, or a choice is unknown.

    Examples:
        >>> weight = torch.nn.Parameter(torch.eye(2))
        >>> optimizer = M3([weight], lr=0.1)
        >>> for _ in range(150):
        ...     optimizer.zero_grad()
        ...     weight.square().sum().backward()
        ...     optimizer.step()
        >>> bool(weight.abs().max() < 0.01)
        True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        slow: SlowMomentum = SlowMomentum(),  # noqa: B008
        eps: float = 1e-8,
        accumulate: Accumulate = "ema",
        orthogonal: NewtonSchulz | None = NewtonSchulz(),  # noqa: B008
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, slow=slow, eps=eps, accumulate=accumulate, orthogonal=orthogonal, weight_decay=weight_decay)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        super().check(options)
        name, slow = cls.__name__, options["slow"]
        check_choice(f"{name}.accumulate", options["accumulate"], Accumulate)
        check_orthogonal(f"{name}.orthogonal", options["orthogonal"])
        if not isinstance(slow, SlowMomentum) or slow.every < 1 or slow.alpha < 0:
            raise ValueError(f"{name}.slow must be a SlowMomentum(alpha, every, beta) with alpha at least 0 and every at least 1, got {slow!r}.")
        for beta, of in zip((*options["betas"], slow.beta), ("betas[0]", "betas[1]", "slow.beta"), strict=True):
            check_share(f"{name}.{of}", beta)

    @classmethod
    def begin(cls, weight: Tensor, options: Mapping[str, Any], lead: int = 0) -> State:
        names = ("fast", "squares", "recent", "slow", "direction")
        return {name: torch.zeros_like(weight) for name in names} | {"step": counter(weight, lead)}

    @classmethod
    def advance(cls, weight: Tensor, gradient: Tensor, state: State, options: Mapping[str, Any], lead: int = 0) -> tuple[Tensor, State]:
        (beta, beta_squares), how, lr = options["betas"], options["accumulate"], options["lr"]
        step = state["step"] + 1
        fast = accumulated(state["fast"], gradient, beta, how)
        squares = accumulated(state["squares"], gradient.square(), beta_squares, how)
        scale: Scale = "norm" if how == "ema" else "none"
        along = direction(_unbiased(fast, beta, step, how), options["orthogonal"], scale, lead) + options["slow"].alpha * state["direction"]
        root_of_squares = root(_unbiased(squares, beta_squares, step, how))
        after = (1 - lr * options["weight_decay"]) * weight - lr * along / (root_of_squares + options["eps"])
        kept = {"fast": fast, "squares": squares, "recent": state["recent"] + gradient, "slow": state["slow"], "direction": state["direction"]}
        due = step % options["slow"].every == 0
        if bool(due.any()):
            moved = cls._moved(kept, step, options, scale, lead)
            kept = kept | {name: torch.where(stretch(due, new), new, kept[name]) if lead else new for name, new in moved.items()}
        return after, kept | {"step": step}

    @classmethod
    def advance_all(cls, weights: list[Tensor], gradients: list[Tensor], states: list[State], options: Mapping[str, Any]) -> list[State]:
        (beta, beta_squares), how, lr = options["betas"], options["accumulate"], float(options["lr"])
        steps = [state["step"] + 1 for state in states]
        fast, squares, recent, slow = ([state[name] for state in states] for name in ("fast", "squares", "recent", "direction"))
        accumulate_all(fast, gradients, beta, how)
        accumulate_squares_of_all(squares, gradients, beta_squares, how)
        torch._foreach_add_(recent, gradients)
        scale: Scale = "norm" if how == "ema" else "none"
        along = [direction(_unbiased(m, beta, step, how), options["orthogonal"], scale, 0) for m, step in zip(fast, steps, strict=True)]
        along = torch._foreach_add(along, slow, alpha=options["slow"].alpha)
        roots = torch._foreach_sqrt(torch._foreach_div(squares, corrections(beta_squares, steps)) if how == "ema" else squares)
        torch._foreach_add_(roots, options["eps"])
        if options["weight_decay"]:
            torch._foreach_mul_(weights, 1 - lr * options["weight_decay"])
        torch._foreach_addcdiv_(weights, along, roots, value=-lr)
        kept = [state | {"step": step} for state, step in zip(states, steps, strict=True)]
        due = [int(state["step"]) % options["slow"].every == 0 for state in kept]
        return [state | cls._moved(state, state["step"], options, scale, 0) if now else state for state, now in zip(kept, due, strict=True)]

    @staticmethod
    def _moved(state: State, step: Tensor, options: Mapping[str, Any], scale: Scale, lead: int) -> State:
        """The slow memory after a step of its own, of the gradients since the last."""
        slow, how = options["slow"], options["accumulate"]
        new = state["recent"] / slow.every if how == "ema" else state["recent"]
        memory = accumulated(state["slow"], new, slow.beta, how)
        along = direction(_unbiased(memory, slow.beta, (step // slow.every).clamp(min=1), how), options["orthogonal"], scale, lead)
        return {"slow": memory, "direction": along, "recent": torch.zeros_like(new)}


def _unbiased(kept: Tensor, beta: float, steps: Tensor, how: Accumulate) -> Tensor:
    return corrected(kept, beta, steps) if how == "ema" else kept
