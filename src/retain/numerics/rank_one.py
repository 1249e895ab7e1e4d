r"""Stretches of steps that each take a direction out of a matrix and add an outer product to it, as one step.

$S_t = \mu_t S_{t-1} - \eta_t k_t^\top e_t$ and $W_t = (\alpha_t I - \eta_t k_t^\top k_t) W_{t-1} + S_t$, where matrices act on rows from the right, and the
errors $e$ of the whole stretch are known before it. There are N stretches of n steps, and all matrices [N, matrices, width, columns] of one take the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .decay import products, running


@dataclass(frozen=True)
class Stretch:
    """What is left of anything at any later step: numbers that the gates alone decide.

    Args:
        rates: [N, n].
        kept: Of what step i adds to W, in W_t [N, n, n].
        start: Of W_0, in W_t [N, n].
        pushed: How often what step i adds to S is in W_t [N, n, n].
        drift: How often S_0 is in W_t [N, n]; None is without momentum, as all below.
        lingering: Of what step i adds to S, in S_n [N, n].
        moment: Of S_0, in S_n [N, 1].
    """

    rates: Tensor
    kept: Tensor
    start: Tensor
    pushed: Tensor
    drift: Tensor | None = None
    lingering: Tensor | None = None
    moment: Tensor | None = None

    @classmethod
    def of(cls, rates: Tensor, keeps: Tensor | None, lingers: Tensor | None = None, active: Tensor | None = None) -> Stretch:
        r"""The stretch of steps with these rates $\eta$, $\alpha$ and $\mu$ [N, n]; those that are not ``active`` do not happen."""
        if active is not None:
            rates = torch.where(active, rates, 0.0)
            keeps, lingers = (None if gate is None else torch.where(active, gate, 1.0) for gate in (keeps, lingers))
        if keeps is None:
            start = torch.ones_like(rates)
            kept = start.unsqueeze(-1).expand(*start.shape, start.shape[-1]).tril()
        else:
            kept = products(keeps)
            start = running(keeps, kept)
        if lingers is None:
            return cls(rates, kept, start, kept)
        lingering = products(lingers)
        moments = torch.cat([running(lingers, lingering).unsqueeze(-1), lingering], dim=-1)
        pushed = kept @ (moments if active is None else torch.where(active.unsqueeze(-1), moments, 0.0))
        return cls(rates, kept, start, pushed[..., 1:], pushed[..., 0], lingering[..., -1, :], moments[..., -1, :1])

    def add(self, weight: Tensor, moment: Tensor | None, inputs: Tensor, errors: Tensor) -> tuple[Tensor, Tensor | None]:
        """W and S behind the stretch, if nothing is taken out, for directions [N, matrices or 1, n, width] and errors [N, matrices, n, columns]."""
        turned, shares = inputs.transpose(-1, -2), self.pushed[..., -1, :] * self.rates
        after = _last(self.start) * weight - turned @ (errors * _by_step(shares))
        if moment is None or self.drift is None or self.lingering is None or self.moment is None:
            return after, moment
        lingering = turned @ (errors * _by_step(self.lingering * self.rates))
        return after + _last(self.drift) * moment, _last(self.moment) * moment - lingering


@dataclass(frozen=True)
class Erasing:
    r"""A stretch that takes its directions out: $W_n = a W_0 + b S_0 - c E$ and $S_n = s S_0 - d E$, with $E$ the errors of all steps.

    What each step takes out, $p_t = k_t W_{t-1}$, solves a unit triangular system made of directions and gates alone, so that one solution serves every
    matrix.

    Args:
        weight: $a$ [N, 1, width, width].
        errors: $c$ [N, 1, width, n].
        drift: $b$, as $a$; None is without momentum, as all below.
        moment: $s$ [N, 1, 1, 1].
        lingering: $d$, as $c$.

    Examples:
        >>> k, w, e = torch.nn.functional.normalize(torch.randn(1, 3, 2), dim=-1), torch.randn(1, 1, 2, 4), torch.randn(1, 1, 3, 4)
        >>> rates, keeps = torch.tensor([[0.5, 1.0, 0.2]]), torch.tensor([[0.9, 0.0, 1.0]])
        >>> closed, _ = Erasing.of(k, Stretch.of(rates, keeps)).add(w, None, e)
        >>> for t in range(3):
        ...     w = keeps[0, t] * w - rates[0, t] * torch.outer(k[0, t], k[0, t] @ w[0, 0] + e[0, 0, t])
        >>> torch.allclose(closed, w, atol=1e-5)
        True
    """

    weight: Tensor
    errors: Tensor
    drift: Tensor | None = None
    moment: Tensor | None = None
    lingering: Tensor | None = None

    @classmethod
    def of(cls, keys: Tensor, stretch: Stretch) -> Erasing:
        """The stretch with the directions ``keys`` [N, n, width]."""
        turned, rates = keys.transpose(-1, -2), stretch.rates.unsqueeze(-2)
        gram = (keys @ turned) * rates
        system = gram * _one_later(stretch.kept)  # but for its diagonal, which is one
        taken = turned * (stretch.kept[..., -1:, :] * rates)
        solved = torch.linalg.solve_triangular(system, taken, upper=False, left=False, unitriangular=True)
        identity = torch.eye(keys.shape[-1], dtype=keys.dtype, device=keys.device)

        def left(number: Tensor, first: float) -> Tensor:
            """What is left of something of which so much would be there at each step if nothing were taken out."""
            before = torch.cat([torch.full_like(number[..., :1], first), number[..., :-1]], dim=-1)
            return (number[..., -1, None, None] * identity - (solved * before.unsqueeze(-2)) @ keys).unsqueeze(1)

        weight = left(stretch.start, 1.0)
        if stretch.drift is None or stretch.lingering is None or stretch.moment is None:
            return cls(weight, solved.unsqueeze(1))
        errors = turned * (stretch.pushed[..., -1:, :] * rates) - solved @ (gram * _one_later(stretch.pushed))
        lingering = turned * (stretch.lingering.unsqueeze(-2) * rates)
        return cls(weight, errors.unsqueeze(1), left(stretch.drift, 0.0), _last(stretch.moment), lingering.unsqueeze(1))

    def add(self, weight: Tensor, moment: Tensor | None, errors: Tensor) -> tuple[Tensor, Tensor | None]:
        """W and S behind the stretch, for errors [N, matrices, n, columns]."""
        after = self.weight @ weight - self.errors @ errors
        if moment is None or self.drift is None or self.moment is None or self.lingering is None:
            return after, moment
        return after + self.drift @ moment, self.moment * moment - self.lingering @ errors


def _last(numbers: Tensor) -> Tensor:
    return numbers[:, -1, None, None, None]


def _by_step(numbers: Tensor) -> Tensor:
    return numbers[:, None, :, None]


def _one_later(table: Tensor) -> Tensor:
    """The table as it stands before each step: row t of it is row t - 1 of the other."""
    return F.pad(table[..., :-1, :], (0, 0, 1, 0))
