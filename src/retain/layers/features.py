"""Features of queries and keys: a longer vector for each, so that a memory of one matrix can tell more of them apart."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import combinations_with_replacement

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Polynomial:
    r"""$\phi_p(x) = (\sqrt{a_i}\; x^{\otimes i})_{i = 0..p}$, so that $\phi_p(q)^\top \phi_p(k) = \sum_{i=0}^p a_i (q^\top k)^i$.

    Of each power $x^{\otimes i}$ the distinct monomials stand once, weighed by the square root of their multinomial coefficient, so $\phi_p$ is
    $\binom{d+p}{p}$ wide and its inner products are exact. The weights $a_i$ are learnt and begin as $1/i!$, the Taylor series of $\exp$; their square
    roots are what is stored, so no $a_i$ is ever negative.

    Symbols: ``degree`` $p$, $d$ the width of a head. Source: ATLAS equations 4, 5, 22 and 23; that the $a_i$ are shared by all heads is ours.

    Args:
        degree: $p$, 1 to 20.

    Raises:
        ValueError: ``degree`` is not 1 to 20.

    Examples:
        >>> phi = Polynomial(degree=2).build(3)
        >>> q, k = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([0.5, 0.25, 1.0])
        >>> phi(q).shape, (phi(q) @ phi(k)).item()  # 1 + 1 + 1 / 2
        (torch.Size([10]), 2.5)
    """

    degree: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.degree <= 20:
            raise ValueError(f"Polynomial.degree must be 1 to 20, whose multinomial coefficients are exact in 64 bits, got {self.degree}.")

    def width(self, dim: int) -> int:
        """How wide the features of a vector of width ``dim`` are."""
        return math.comb(dim + self.degree, self.degree)

    def build(self, dim: int) -> PolynomialMap:
        """The module, with slow weights of its own."""
        return PolynomialMap(self, dim)


class PolynomialMap(nn.Module):
    """The slow weights of ``Polynomial``, for vectors of width ``dim``."""

    def __init__(self, spec: Polynomial, dim: int) -> None:
        super().__init__()
        self.spec = spec
        self.root = nn.Parameter(torch.tensor([math.factorial(i) ** -0.5 for i in range(spec.degree + 1)]))
        # Plain tensors of whole numbers on the host: neither a cast of the module nor a load touches them.
        self.factors, self.counts = zip(*(_monomials(dim, i) for i in range(1, spec.degree + 1)), strict=True)

    @property
    def reach(self) -> Tensor:
        """The squared length of the features of a vector of length one."""
        return self.root.square().sum()

    def forward(self, x: Tensor) -> Tensor:
        """The features [..., width] of vectors [..., dim]."""
        root = self.root.to(x.dtype)
        powers = [root[0].expand(*x.shape[:-1], 1)]
        for i, (factors, counts) in enumerate(zip(self.factors, self.counts, strict=True), start=1):
            product = root[i] * counts.to(x.device, x.dtype).sqrt()
            for column in factors.to(x.device):
                product = product * x.index_select(-1, column)
            powers.append(product)
        return torch.cat(powers, dim=-1)


def _monomials(dim: int, degree: int) -> tuple[Tensor, Tensor]:
    """The factors of each distinct monomial [degree, monomials], and how often the power of a vector has it [monomials]."""
    found = list(combinations_with_replacement(range(dim), degree))
    counts = [math.factorial(degree) // math.prod(map(math.factorial, Counter(monomial).values())) for monomial in found]
    return torch.tensor(found, device="cpu").t().contiguous(), torch.tensor(counts, device="cpu")
