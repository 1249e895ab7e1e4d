"""What the blocks have in common: tokens in, tokens out, and a state that goes along."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.core.state import MemoryState
from retain.core.trees import placed, under
from retain.core.untraced import untraced
from retain.layers import RMS, ContinuumMemory, Level, NeuralMemory, SelfModifyingMemory
from retain.layers.continuum import Form

from .state import LEVELS, BlockState


class AbstractMixer(nn.Module, ABC):
    """The half of a block in which tokens meet: in a memory, in attention, or in both.

    Examples:
        >>> from retain.blocks import MAG, AbstractMixer
        >>> issubclass(MAG, AbstractMixer)
        True
    """

    @abstractmethod
    def start(self, batch: int) -> BlockState:
        """The state before the first token of ``batch`` streams."""

    @abstractmethod
    def forward(self, x: Tensor, state: BlockState, lengths: Tensor, write: bool = True) -> tuple[Tensor, BlockState]:
        """The answers [batch, time, dim] to normalised tokens of which row b has ``lengths[b]``, and the state behind them.

        What comes out behind a row's last token means nothing. With ``write=False`` no memory takes a step; all else goes on as usual.
        """

    def openness(self, x: Tensor, margin: float = 0.0) -> Tensor:
        """How open the gates of its memories stand on each of these tokens [batch, time]; see ``NeuralMemory.write_cost``."""
        return x.new_zeros(x.shape[:2])


@dataclass(frozen=True, kw_only=True)
class Gating:
    r"""$y \otimes m$: how a memory's answer meets attention's. Both are normalised with learnt gains first, as the paper's experiments do.

    Source: Titans equations 25 and 28 (a non-linear gating that is not spelled out).

    Args:
        kind: ``"sigmoid"``: $y \odot \sigma(m)$. ``"silu"``: $y \odot \mathrm{silu}(m)$. ``"add"``: $y + m$, which lets a memory speak where attention has
            nothing to say (ours).

    Examples:
        >>> gate = Gating().build(4)
        >>> gate(torch.ones(1, 1, 4), torch.zeros(1, 1, 4))
        tensor([[[0.5000, 0.5000, 0.5000, 0.5000]]], grad_fn=<MulBackward0>)
    """

    kind: Literal["sigmoid", "silu", "add"] = "sigmoid"

    def build(self, dim: int) -> GatingMap:
        """The module, with slow weights of its own."""
        return GatingMap(self, dim)


class GatingMap(nn.Module):
    """The slow weights of ``Gating``."""

    def __init__(self, spec: Gating, dim: int) -> None:
        super().__init__()
        self.spec = spec
        self.norm_y, self.norm_m = RMS().build(dim), RMS().build(dim)

    def forward(self, y: Tensor, m: Tensor) -> Tensor:
        """Both [batch, time, dim]."""
        y, m = self.norm_y(y), self.norm_m(m)
        if self.spec.kind == "add":
            return y + m
        return y * (torch.sigmoid(m) if self.spec.kind == "sigmoid" else F.silu(m))


def remember(
    memory: NeuralMemory | SelfModifyingMemory, x: Tensor, state: MemoryState, real: Tensor | None, write: bool
) -> tuple[Tensor, MemoryState]:
    """A memory's answers to the tokens that are ``real`` [batch, time]; None means all are."""
    never = None if write else torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
    y, after, *_ = memory(x, state, mask=real, write_mask=never)
    return y, after


def real_tokens(x: Tensor, lengths: Tensor) -> Tensor | None:
    """Which tokens are there [batch, time], if not all are."""
    return None if bool((lengths == x.shape[1]).all()) else (torch.arange(x.shape[1]) < lengths[:, None]).to(x.device)


def persistent_tokens(count: int, dim: int) -> nn.Parameter | None:
    """Learnt tokens that stand before every stream (Titans equation 19), of the size of normalised ones."""
    return nn.Parameter(torch.randn(count, dim)) if count else None


class Block(nn.Module):
    r"""$x \leftarrow x + \mathrm{mixer}(\mathrm{norm}(x))$, then $x \leftarrow x + \mathrm{SwiGLU}(\mathrm{norm}(x))$, which may be several and may learn.

    The token-wise half is a ``ContinuumMemory``, the paper's $y_t = \mathrm{MLP}^{(f_k)}(\dots \mathrm{MLP}^{(f_1)}(o_t))$. Its levels stand still while a
    block reads; who knows the loss moves them with ``learn``. Norms and residuals are left out of the paper's equations. Source: Nested Learning
    equation 97.

    Args:
        mixer: Where tokens meet.
        dim: Width of the stream.
        hidden: Width inside each level of the token-wise half.
        levels: How each of them learns; one that never does is the token-wise half of a transformer.
        form: How they stand to each other; see ``ContinuumMemory``.
        margin: Of the write cost; see ``NeuralMemory.write_cost``.

    Examples:
        >>> from retain.blocks import LMM
        >>> block = Block(LMM(NeuralMemory(8)), 8, 16)
        >>> y, state, cost = block(torch.randn(1, 5, 8), None, torch.tensor([5]))
        >>> y.shape
        torch.Size([1, 5, 8])
    """

    def __init__(
        self,
        mixer: AbstractMixer,
        dim: int,
        hidden: int,
        *,
        levels: Sequence[Level] = (Level(every=0),),
        form: Form = "sequential",
        margin: float = 0.0,
    ) -> None:
        super().__init__()
        self.margin, self.norm, self.mixer = margin, RMS().build(dim), mixer
        self.continuum = ContinuumMemory(dim, hidden, levels=levels, form=form)

    def start(self, batch: int) -> BlockState:
        """The state before the first token of ``batch`` streams."""
        start = self.mixer.start(batch)
        return self._with_levels(start, self.continuum.start(batch)) if self.continuum.fastest else start

    def learn(self, state: BlockState, gradients: Mapping[str, Tensor], tokens: Tensor) -> BlockState:
        """The state behind ``tokens`` more tokens of each row, from which the levels learn; see ``ContinuumMemory.learn``."""
        return self._with_levels(state, self.continuum.learn(under(state.tensors, LEVELS), gradients, tokens))

    def _with_levels(self, state: BlockState, levels: Mapping[str, Tensor]) -> BlockState:
        return replace(state, tensors={**state.tensors, **placed(levels, LEVELS)})

    def forward(self, x: Tensor, state: BlockState | None, lengths: Tensor, write: bool = True) -> tuple[Tensor, BlockState, Tensor]:
        """The stream [batch, time, dim] with this block's shares added, the state behind it, and in training how open its memories' gates stood
        on each token [batch, time].

        Without a state the streams begin here.
        """
        seen = self.norm(x)
        state = untraced(self.start)(x.shape[0]) if state is None else state
        y, after = untraced(self.mixer)(seen, state, lengths, write)
        x = x + y
        cost = untraced(self.mixer.openness)(seen, self.margin) if self.training else x.new_zeros(x.shape[:2])
        if not self.continuum.fastest:
            return self.continuum(x), after, cost
        levels = under(state.tensors, LEVELS)
        return untraced(self.continuum)(x, levels), self._with_levels(after, levels), cost
