"""Adam and its kin, as one memory with a closed form."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from .averages import Moment, accumulate_all, accumulate_squares_of_all, check_moments, corrections, counter, moment
from .matrices import root
from .optimizer import AbstractOptimizer, State, check_choice

Target = Literal["root", "squares"]


class AdamAsMemory(AbstractOptimizer):
    r"""$W_{t+1} = W_t - \eta\,m^*$, the minimiser of $\sum_i \lVert m \odot g_i - P \rVert^2 + \lambda \lVert m \rVert^2$: $m^* = \tilde M \odot P / (H + \lambda)$.

    $\tilde M$ gathers the gradients and $H$ their squares, and $P$ is what the memory maps gradients to: $\sqrt{\sum g^2}$ for ``"root"`` or $\sum g^2$ for
    ``"squares"``. Where a gradient was, and without $\lambda$, the step is $\tilde M / (\sqrt{\beta_2} (\sqrt H + \epsilon))$ or $\tilde M / \beta_2$, with no $\beta_2$
    where $H$ is an average. So these are in it:

    * ``torch.optim.Adam`` by default;
    * ``torch.optim.RMSprop`` with ``betas=(0, alpha), squares="ema"``;
    * ``torch.optim.Adagrad`` with ``betas=(0, 1), squares="sum"``;
    * momentum without decay with ``betas=(1, 1), momentum="sum", squares="sum", target="squares"``, and with ``betas=(0, 1)`` and averages of gradients
      plain descent;
    * the paper's literal form, which never forgets a gradient, with ``momentum="sum", squares="sum"``.

    Source: Nested Learning equations 101 to 105.

    Args:
        params: As in every ``torch.optim.Optimizer``.
        lr: $\eta$.
        betas: $\beta_1$ of $\tilde M$ and $\beta_2$ of $H$: decays of averages, weights of the summands of sums.
        eps: $\epsilon$, added to the root.
        ridge: $\lambda$.
        momentum: What $\tilde M$ is: ``"sum"``; ``"ema"``, a decayed average; or ``"corrected"``, one that is corrected for its start.
        squares: What $H$ is.
        target: $P$.

    Raises:
        ValueError: A number is out of its range, or a choice is unknown.

    Examples:
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> weight.grad = torch.tensor([0.01, -100.0])
        >>> AdamAsMemory([weight], lr=0.5).step()
        >>> weight.data
        tensor([-0.5000,  0.5000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        ridge: float = 0.0,
        momentum: Moment = "corrected",
        squares: Moment = "corrected",
        target: Target = "root",
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, ridge=ridge, momentum=momentum, squares=squares, target=target)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        super().check(options)
        check_moments(cls.__name__, options)
        check_choice(f"{cls.__name__}.target", options["target"], Target)
        if not options["ridge"] >= 0:
            raise ValueError(f"{cls.__name__}.ridge must be at least 0, got {options['ridge']!r}.")

    @classmethod
    def begin(cls, weight: Tensor, options: Mapping[str, Any], lead: int = 0) -> State:
        return {"momentum": torch.zeros_like(weight), "squares": torch.zeros_like(weight), "step": counter(weight, lead)}

    @classmethod
    def advance(cls, weight: Tensor, gradient: Tensor, state: State, options: Mapping[str, Any], lead: int = 0) -> tuple[Tensor, State]:
        (beta, beta_squares), ridge, step = options["betas"], options["ridge"], state["step"] + 1
        kept, m = moment(state["momentum"], gradient, beta, options["momentum"], step)
        kept_squares, h = moment(state["squares"], gradient.square(), beta_squares, options["squares"], step)
        summand = beta_squares if options["squares"] == "sum" else 1.0
        found = m / (summand**0.5 * (root(h) + options["eps"])) if options["target"] == "root" else m / summand
        if ridge:
            found = found * (h / (h + ridge))
        return weight - options["lr"] * found, {"momentum": kept, "squares": kept_squares, "step": step}

    @classmethod
    def advance_all(cls, weights: list[Tensor], gradients: list[Tensor], states: list[State], options: Mapping[str, Any]) -> list[State]:
        if options["target"] != "root" or options["ridge"]:
            return super().advance_all(weights, gradients, states, options)
        (beta, beta_squares), momentum, squares = options["betas"], options["momentum"], options["squares"]
        steps = [state["step"] + 1 for state in states]
        m, h = ([state[name] for state in states] for name in ("momentum", "squares"))
        accumulate_all(m, gradients, beta, momentum)
        accumulate_squares_of_all(h, gradients, beta_squares, squares)
        roots = torch._foreach_sqrt(torch._foreach_div(h, corrections(beta_squares, steps)) if squares == "corrected" else h)
        torch._foreach_add_(roots, options["eps"])
        if squares == "sum":
            torch._foreach_mul_(roots, beta_squares**0.5)
        if momentum == "corrected":
            torch._foreach_mul_(roots, corrections(beta, steps))
        torch._foreach_addcdiv_(weights, m, roots, value=-float(options["lr"]))
        return [state | {"step": step} for state, step in zip(states, steps, strict=True)]
