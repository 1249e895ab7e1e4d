"""What the optimizers have in common: one pure step, run in place on parameters here, and differentiably on a memory's weights in Continuum Memory."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

import torch
from torch import Tensor

State = dict[str, Tensor]


class AbstractOptimizer(torch.optim.Optimizer, ABC):
    """An optimizer whose meaning is ``begin`` and ``advance``: pure, differentiable functions of one weight.

    With ``lead`` they are functions of many weights at once, which the first ``lead`` axes of every tensor count and which know nothing of each other. What is
    kept for a weight is tensors alone, and what counts its steps is called ``step``, since torch loads whatever is called otherwise in the weight's type.

    A subclass names its options with their defaults as arguments of ``__init__``, and hands them on::

        def __init__(self, params, lr=1e-3, alpha=0.9):
            super().__init__(params, lr=lr, alpha=alpha)

    Args:
        params: Parameters, named parameters, or groups of them with options of their own.
        options: The options of groups that have none of their own.

    Raises:
        ValueError: An option makes no sense; the message names it.

    Examples:
        >>> class SignDescent(AbstractOptimizer):
        ...     def __init__(self, params, lr=1e-3):
        ...         super().__init__(params, lr=lr)
        ...
        ...     @classmethod
        ...     def advance(cls, weight, gradient, state, options, lead=0):
        ...         return weight - options["lr"] * gradient.sign(), state
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> weight.grad = torch.tensor([3.0, -0.1])
        >>> SignDescent([weight], lr=0.5).step()
        >>> weight.data
        tensor([-0.5000,  0.5000])
    """

    def __init__(self, params: Iterable[Any], **options: Any) -> None:
        self.check(options)
        super().__init__(params, options)

    @classmethod
    def options(cls, **given: Any) -> dict[str, Any]:
        """All options, those that are not given at their defaults.

        Raises:
            ValueError: There is no such option, or it makes no sense.
        """
        known = {name: part.default for name, part in list(inspect.signature(cls).parameters.items())[1:]}
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ValueError(f"{cls.__name__} has no option {', '.join(map(repr, unknown))}; it has {', '.join(known)}.")
        complete = {**known, **given}
        cls.check(complete)
        return complete

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Refuse options that make no sense.

        Raises:
            ValueError: The message names the option, what was got, and what is expected.
        """
        for name in ("lr", "eps", "weight_decay"):
            value = options.get(name, 0.0)
            if not isinstance(value, Tensor) and not value >= 0:
                raise ValueError(f"{cls.__name__}.{name} must be at least 0, got {value!r}.")

    @classmethod
    def begin(cls, weight: Tensor, options: Mapping[str, Any], lead: int = 0) -> State:
        """What is kept for a weight before its first step; the first ``lead`` axes of all tensors count weights that know nothing of each other."""
        return {}

    @classmethod
    @abstractmethod
    def advance(cls, weight: Tensor, gradient: Tensor, state: State, options: Mapping[str, Any], lead: int = 0) -> tuple[Tensor, State]:
        """The weight after a step, and what is kept. Nothing is changed in place, and gradients flow through all of it."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.check({**self.defaults, **{name: value for name, value in param_group.items() if name in self.defaults}})
        super().add_param_group(param_group)

    @classmethod
    def advance_all(cls, weights: list[Tensor], gradients: list[Tensor], states: list[State], options: Mapping[str, Any]) -> list[State]:
        """``advance`` for a list of single weights, which are changed in place; optimizers override it that can do that in fewer strokes."""
        kept: list[State] = []
        for weight, gradient, state in zip(weights, gradients, states, strict=True):
            after, new = cls.advance(weight, gradient, state, options)
            weight.copy_(after)
            kept.append(new)
        return kept

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move every parameter that has a gradient.

        Args:
            closure: Computes the loss and its gradients anew, and returns the loss.

        Returns:
            What the closure returned.

        Raises:
            RuntimeError: A gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moving = [(group, [weight for weight in group["params"] if weight.grad is not None]) for group in self.param_groups]
        if any(weight.grad.is_sparse for _, weights in moving for weight in weights):
            raise RuntimeError(f"{type(self).__name__} needs dense gradients, got a sparse one; make its layer with sparse=False.")
        for group, weights in moving:
            states = [self._before(weight, group) for weight in weights]
            kept = self.advance_all(weights, [weight.grad for weight in weights], states, group)
            self.state.update(zip(weights, kept, strict=True))
        return loss

    def _before(self, weight: Tensor, group: Mapping[str, Any]) -> State:
        return self.state[weight] or self.begin(weight, group)


def check_share(name: str, value: float, most: float | None = None) -> None:
    """Refuse what is no share: of an average it is below one; with ``most`` it may be as much as that.

    Raises:
        ValueError: The message names it.
    """
    if not (0 <= value < 1 if most is None else 0 <= value <= most):
        raise ValueError(f"{name} must lie in {'[0, 1)' if most is None else f'[0, {most:g}]'}, got {value!r}.")


def check_choice(name: str, value: object, choices: Any) -> None:
    """Refuse what a ``Literal`` does not hold.

    Raises:
        ValueError: The message names it, and the choices.
    """
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, get_args(choices)))}, got {value!r}.")
