"""Momentum of any order: surprise that lingers."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from retain.core.contracts import AbstractLinearLearner, Response
from retain.core.shapes import Params
from retain.core.tokens import Step
from retain.core.trees import each, stretch
from retain.numerics import products, running


@dataclass(frozen=True, kw_only=True)
class Momentum(AbstractLinearLearner):
    r"""A cascade of first-order filters: $S^{(1)}_t = \eta^{(1)}_t S^{(1)}_{t-1} - u_t$ and $S^{(k)}_t = \eta^{(k)}_t S^{(k)}_{t-1} + S^{(k-1)}_t$.

    What moves the memory is the last order, or a mix $\sum_k m^{(k)}_t S^{(k)}_t$ whose weights are gates. Symbols: ``momentum`` holds
    $\eta^{(1..n)}$, ``mix`` holds $m$. Source: Titans equations 9, 10 and 14 for order 1; higher orders and mixes are titans-pytorch's.

    Args:
        order: Filters in the cascade, at least 1.
        mix: ``"last"`` order only, a learned mix of all ``"orders"``, or of the ``"surprise"`` $-u_t$ itself and all orders.

    Raises:
        ValueError: ``order`` is below 1 or ``mix`` is unknown; from a step, if a gate it needs is missing.

    Examples:
        >>> step = Step(momentum=torch.tensor([[[0.5]]]))
        >>> Momentum().accumulate(({"w": torch.ones(1, 1, 1)},), {"w": torch.ones(1, 1, 1)}, step)
        ({'w': tensor([[[-0.5000]]])},)
    """

    order: int = 1
    mix: Literal["last", "orders", "surprise"] = "last"

    def __post_init__(self) -> None:
        if self.order < 1:
            raise ValueError(f"Momentum.order must be at least 1, got {self.order}. Use learner.Gradient() for none.")
        if self.mix not in ("last", "orders", "surprise"):
            raise ValueError(f"Momentum.mix must be 'last', 'orders' or 'surprise', got {self.mix!r}.")

    @property
    def moments(self) -> int:
        return self.order

    @property
    def mixed(self) -> int:
        return {"last": 0, "orders": self.order, "surprise": self.order + 1}[self.mix]

    def accumulate(self, moments: tuple[Params, ...], update: Params, step: Step) -> tuple[Params, ...]:
        momentum = _given("momentum", step.momentum, self.order)
        after = [each(lambda s, u: (stretch(momentum[..., 0], s) * s).sub_(u), moments[0], update)]
        for k, moment in enumerate(moments[1:], start=1):
            after.append(each(lambda s, x, eta=momentum[..., k]: torch.addcmul(x, stretch(eta, s), s), moment, after[-1]))
        return tuple(after)

    def expose(self, moments: tuple[Params, ...], update: Params, step: Step) -> Params:
        if self.mix == "last":
            return moments[-1]
        terms = moments if self.mix == "orders" else (each(torch.neg, update), *moments)
        weights = _given("mix", step.mix, self.mixed)
        weighted = [each(lambda s, w=weights[..., i]: stretch(w, s) * s, term) for i, term in enumerate(terms)]
        return each(lambda *parts: torch.stack(parts).sum(0), *weighted)

    def response(self, steps: Step, active: Tensor) -> Response:
        momentum, n, m = _given("momentum", steps.momentum, self.order), active.shape[-1], self.order
        lead = active.shape[:-1]
        from_updates, from_moments = -torch.diag_embed(active), active.new_zeros(*lead, n, m)  # of what enters the first filter
        orders = [(from_updates, from_moments)]
        for k in range(m):
            eta = torch.where(active > 0, momentum[..., k], 1.0)
            decay = products(eta)
            from_updates = decay @ (active.unsqueeze(-1) * from_updates) if k else decay * -active.unsqueeze(-2)
            column = running(eta, decay).unsqueeze(-1)
            from_moments = torch.cat([decay @ (active.unsqueeze(-1) * from_moments[..., :k]), column, active.new_zeros(*lead, n, m - k - 1)], dim=-1)
            orders.append((from_updates, from_moments))
        if self.mix == "last":
            delta = orders[-1]
        else:
            terms, weights = orders[1:] if self.mix == "orders" else orders, _given("mix", steps.mix, self.mixed)
            delta = tuple(sum(weights[..., i, None] * term[part] for i, term in enumerate(terms)) for part in (0, 1))
        return Response(
            active.unsqueeze(-1) * delta[0],
            active.unsqueeze(-1) * delta[1],
            torch.stack([u[..., -1, :] for u, _ in orders[1:]], dim=-2),
            torch.stack([s[..., -1, :] for _, s in orders[1:]], dim=-2),
        )


def _given(name: str, gate: Tensor | None, width: int) -> Tensor:
    if gate is None or gate.shape[-1] != width:
        raise ValueError(f"this Momentum needs a `{name}` gate with {width} entries, got {'none' if gate is None else list(gate.shape)}.")
    return gate
