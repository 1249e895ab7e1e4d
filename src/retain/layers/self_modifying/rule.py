"""What self-modifying memories do at each token, and in which ranges their gates lie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from retain.core.contracts import AbstractStructure
from retain.core.shapes import Params
from retain.core.trees import each
from retain.memory.structure import Matrix, ResidualMLP

Update = Literal["dgd", "gd"]
Objective = Literal["l2", "dot"]
Targets = Literal["self-generated", "shared"]
NAMES = ("eta", "alpha", "k", "v", "q", "memory")
"""The memories, those whose answers are single numbers first, and the one that is read for the output last."""
NUMBERS = ("eta", "alpha")


@dataclass(frozen=True, kw_only=True)
class SelfModifyingRule:
    r"""$M_{\square,t} = M_{\square,t-1}(\alpha_t I - \eta_t k_t k_t^\top) + S_{\square,t}$, with
    $S_{\square,t} = \mu_t S_{\square,t-1} - \eta_t \nabla \ell(M_{\square,\xi}; k_t, \hat v_{\square,t})$ and $\hat v_{\square,t} = M_{\square,\xi}(v_t)$.

    Everything at token $t$ is made by the memories as they stood at the last boundary $\xi$, the last multiple of the chunk before $t$, counted from the
    start of the stream. No gradient of $\ell$ goes into its target. Where a memory is a perceptron, the factor meets the weight that reads the key; the other
    one decays by $\alpha_t$ alone (the paper does not say what its factor means there).

    Source: Nested Learning equations 86 to 93, with $\ell = \frac12 \|M(k) - v\|^2$, whose gradient is the one of equation 93. The momentum is in the
    paper's ablation and in none of its equations; ours is that of Titans, equation 10.

    Args:
        update: ``"dgd"``, delta gradient descent, or ``"gd"``, which has $\alpha_t I$ for the factor.
        decay: Whether there is an $\alpha$; else it is one.
        momentum: Where $\mu_t$, made from the token by slow weights, starts; None for none.
        objective: ``"l2"`` or ``"dot"``, $\ell = -\langle M(k), v \rangle$, which only the factor holds back: for matrices, as in equation 92.
        targets: ``"self-generated"``, $\hat v_\square$, or ``"shared"``: the value $v_t$ for all, equations 80 and 81; single numbers are held to its mean.
        chunk: Tokens between two boundaries of the memory that is read for the output.
        projection_chunk: The same for all other memories; None for ``chunk``.
        unit: Which of ``q``, ``k`` and ``v`` are made one long. The paper says it of the first two. Values that are much longer than keys make memories
            that hold what they say themselves grow without end.

    Raises:
        ValueError: A choice is unknown, a chunk is below 1, or the momentum does not start in (0, 1).

    Examples:
        >>> SelfModifyingRule(chunk=4, projection_chunk=2).chunks
        {'memory': 4, 'projections': 2}
    """

    update: Update = "dgd"
    decay: bool = True
    momentum: float | None = None
    objective: Objective = "l2"
    targets: Targets = "self-generated"
    chunk: int = 16
    projection_chunk: int | None = None
    unit: frozenset[str] = frozenset({"q", "k", "v"})

    def __post_init__(self) -> None:
        for name, choices in (("update", Update), ("objective", Objective), ("targets", Targets)):
            if getattr(self, name) not in get_args(choices):
                raise ValueError(f"SelfModifyingRule.{name} must be one of {', '.join(get_args(choices))}; got {getattr(self, name)!r}.")
        for name in ("chunk", "projection_chunk"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"SelfModifyingRule.{name} must be at least 1, got {size}.")
        if self.momentum is not None and not 0 < self.momentum < 1:
            raise ValueError(f"SelfModifyingRule.momentum must start strictly between 0 and 1, got {self.momentum}. For none use momentum=None.")
        if not self.unit <= {"q", "k", "v"}:
            raise ValueError(f"SelfModifyingRule.unit must be some of q, k and v, got {', '.join(sorted(self.unit))}.")

    @property
    def chunks(self) -> dict[str, int]:
        """Tokens of a chunk, of ``memory`` and of the other memories."""
        return {"memory": self.chunk, "projections": self.projection_chunk or self.chunk}

    def chunk_of(self, name: str) -> int:
        """Tokens of a chunk of one memory."""
        return self.chunks["memory" if name == "memory" else "projections"]


@dataclass(frozen=True, kw_only=True)
class Rates:
    r"""$\eta_t = \eta_{\max}\, \mathrm{sigmoid}(M_\eta(x_t) + b_\eta)$ and $\alpha_t = \mathrm{sigmoid}(M_\alpha(x_t) + b_\alpha)$, a number a head each.

    The paper states no ranges. With keys one long, the half squared loss and a matrix a repeated key is multiplied by $\alpha_t - 2\eta_t$, which has to
    become negative for a memory that tracks states; up to $\eta_{\max} = 1$ it stays within $[-1, 1]$ if nothing is forgotten.

    Args:
        eta: Where $\eta$ starts, for memories that say nothing; None starts at $1/4$ over the tokens between two boundaries, and less with momentum.
        eta_max: $\eta_{\max}$, at most 1.
        alpha: Where $\alpha$ starts.

    Raises:
        ValueError: A start lies outside its range.

    Examples:
        >>> rates = Rates(eta=0.25)
        >>> rates.of("eta", torch.zeros(1) + rates.start("eta", SelfModifyingRule()))
        tensor([0.2500])
    """

    eta: float | None = None
    eta_max: float = 1.0
    alpha: float = 0.9997

    def __post_init__(self) -> None:
        if not 0 < self.eta_max <= 1:
            raise ValueError(f"Rates.eta_max must lie in (0, 1], got {self.eta_max}: beyond one a repeated key is overwritten more and more wrongly.")
        if self.eta is not None and not 0 < self.eta < self.eta_max:
            raise ValueError(f"Rates.eta must start strictly between 0 and eta_max={self.eta_max}, got {self.eta}: no bias puts it there.")
        if not 0 < self.alpha < 1:
            raise ValueError(
                f"Rates.alpha must start strictly between 0 and 1, got {self.alpha}. To forget nothing use SelfModifyingRule(decay=False)."
            )

    def start(self, name: str, rule: SelfModifyingRule) -> float:
        r"""The bias $b$ with which a gate begins."""
        if name == "alpha":
            return logit(self.alpha)
        together = max(rule.chunks.values()) / (1 - (rule.momentum or 0.0))
        return logit(min(0.5, 0.25 / together) if self.eta is None else self.eta / self.eta_max)

    def of(self, name: str, raw: Tensor) -> Tensor:
        """The gate, from what its memory says and its bias together."""
        return torch.sigmoid(raw) * (self.eta_max if name == "eta" else 1.0)


def logit(share: float) -> float:
    """What ``sigmoid`` makes this share of one of."""
    return math.log(share / (1 - share))


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """What is run: the rule, the memories, and the slow weights that it needs beside them.

    Args:
        rule: See there.
        rates: See there.
        structures: Of those whose answers are vectors, and of those whose answers are numbers.
        written: Names of the memories that are rewritten, in the order of ``NAMES``.
        still: Weights of those that are not, each [heads, ...].
        biases: Those of the gates, by name, each [heads].
    """

    rule: SelfModifyingRule
    rates: Rates
    structures: tuple[Matrix | ResidualMLP, AbstractStructure]
    written: tuple[str, ...]
    still: Mapping[str, Params]
    biases: Mapping[str, Tensor]

    def structure(self, name: str) -> AbstractStructure:
        """That of one memory."""
        return self.structures[name in NUMBERS]


@dataclass(frozen=True, kw_only=True)
class Views:
    """What slow weights make of a stretch of tokens.

    Args:
        x: What memories make keys, values and gates of [batch, time, heads, head_dim].
        q: Queries, of the same shape; None if a memory makes them.
        momentum: $\\mu$ [batch, time, heads]; None if there is none.
        write: Which tokens are written [batch, time]; None if all are.
    """

    x: Tensor
    q: Tensor | None
    momentum: Tensor | None
    write: Tensor | None = None

    def token(self, t: int) -> Views:
        """One token, without the axis of time."""
        q, momentum, write = (None if whole is None else whole[:, t] for whole in (self.q, self.momentum, self.write))
        return Views(x=self.x[:, t], q=q, momentum=momentum, write=write)


def part(params: Params, name: str) -> dict[str, Tensor]:
    """The weights of one memory among those of all, under the names that its structure gives them."""
    return {path.removeprefix(f"{name}_"): w for path, w in params.items() if path.startswith(f"{name}_")}


def whole(parts: Mapping[str, Params]) -> dict[str, Tensor]:
    """The inverse of ``part``."""
    return {f"{name}_{weight}": w for name, params in parts.items() for weight, w in params.items()}


def in_every_row(params: Params, batch: int) -> dict[str, Tensor]:
    """Weights [heads, ...] in each row of a batch, in float32 or better."""
    return each(lambda w: w.to(torch.promote_types(w.dtype, torch.float32)).expand(batch, *w.shape), params)
