"""What lingers of past steps: momentum, as the last few products of vectors that it is made of."""

from __future__ import annotations

import torch
from torch import Tensor

from . import ordered

NOTHING = 2.0**-26  # what is left of a step when it is let go


class Lingering:
    r"""$S_t = \sum_i \eta^{t-i} x_i d_i^\top$ over the last steps $x_i d_i^\top$, so many that what is left of others is nothing beside a float's last digit.

    Args:
        momentum: $\eta$.
        rows: Width of the inputs.
        columns: Width of the steps.
        device: Where they lie.

    Examples:
        >>> s = Lingering(0.5, 2, 1, "cpu")
        >>> s.take(torch.tensor([1.0, 0.0]), torch.tensor([2.0]))
        >>> s.take(torch.tensor([0.0, 1.0]), torch.tensor([2.0]))
        >>> s.whole().tolist()
        [[1.0], [2.0]]
    """

    def __init__(self, momentum: float, rows: int, columns: int, device: str) -> None:
        shares = [1.0] if momentum else []
        while shares and shares[-1] * momentum > NOTHING:
            shares.append(shares[-1] * momentum)
        self._twice = torch.tensor(shares[::-1] * 2, device=device)
        self.inputs = torch.zeros(len(shares), rows, device=device)
        self.steps = torch.zeros(len(shares), columns, device=device)
        self.taken = 0

    def take(self, x: Tensor, step: Tensor) -> None:
        """All that lingers fades by a step, and this one is added."""
        at = self.taken % len(self.inputs)
        self.inputs[at], self.steps[at] = x, step
        self.taken += 1

    def near(self, x: Tensor) -> Tensor:
        """The product of each input with ``x``."""
        return ordered.by_columns(self.inputs, x)

    def along(self, step: Tensor) -> Tensor:
        """The product of each step with another."""
        return ordered.by_columns(self.steps, step)

    def weighed(self, products: Tensor) -> Tensor:
        """A number for each step, times what is left of it."""
        at, many = self.taken % max(len(self.inputs), 1), len(self.inputs)
        return products * self._twice[many - at : 2 * many - at]

    def steps_weighed(self, products: Tensor) -> Tensor:
        """``x @ S``, if these are the products with ``x``."""
        return ordered.by_rows(self.weighed(products), self.steps)

    def inputs_weighed(self, products: Tensor) -> Tensor:
        """``S @ d``, if these are the products with ``d``."""
        return ordered.by_rows(self.weighed(products), self.inputs)

    def whole(self) -> Tensor:
        """$S$ written out [rows, columns]."""
        return self.inputs.T @ self.weighed(self.steps.T).T

    def load(self, inputs: Tensor, steps: Tensor, taken: Tensor) -> None:
        """Go on from these."""
        self.inputs, self.steps, self.taken = inputs.to(self.inputs.device), steps.to(self.inputs.device), int(taken)
