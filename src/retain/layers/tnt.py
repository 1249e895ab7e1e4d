"""TNT: a coarse memory of the whole stream, and fine ones that begin anew in each shard of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from retain.core.engine import AbstractEngine
from retain.core.errors import StateMismatch
from retain.core.rule import MemoryRule
from retain.core.shapes import Stream, TokenMask
from retain.core.state import MemoryState
from retain.core.tokens import Tokens
from retain.engines import answered, begun, in_shards, select, weights_of
from retain.memory import presets

from .gates import GateMap, Gates
from .output import Output
from .projections import Projections
from .rows import Rows, check_batch, check_stream
from .tnt_state import TNTState


@dataclass(frozen=True, kw_only=True)
class Local:
    r"""A local memory of TNT: $W_t = W_{\text{init}}$ where a shard begins, else $W_{\xi(t, C_L)} - \sum_{\tau} \theta_\tau \nabla \ell(W_{\xi(t, C_L)}; \tau)$.

    Symbols: ``chunk`` $C_L$, ``shard`` $S_L$, $\xi(t, C_L)$ the start of the chunk of token $t$. Source: TNT equations 6 and 14.

    Args:
        chunk: Tokens whose gradients are taken at one point. TNT trains with long chunks first and with short ones for a while in the end.
        shard: Tokens between two starts, counted from the start of the stream.
        rule: What the memory is, holds, lets go, and how it moves; None takes that of the global memory. Its clocks are not looked at.

    Raises:
        ValueError: ``chunk`` is below 1, or does not divide ``shard``.

    Examples:
        >>> Local(chunk=4, shard=16).clocked(presets.tnt()).update_every
        4
    """

    chunk: int = 64
    shard: int = 2048
    rule: MemoryRule | None = None

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.shard < 1 or self.shard % self.chunk:
            raise ValueError(
                f"Local.chunk must be at least 1 and divide Local.shard, got chunk={self.chunk} and shard={self.shard}: "
                "a shard ends where a chunk does."
            )

    def clocked(self, given: MemoryRule) -> MemoryRule:
        """The rule of the memory, where that of the global one is ``given``."""
        return replace(self.rule or given, update_every=self.chunk, step_every=1, reads="after")


class TNTMemory(nn.Module):
    r"""$o_t = f(V_{\xi(t, C_G)}, q_t) + \sum_i f(W^{(i)}_t, P^{(i)}_t q_t)$ with $P^{(i)}_t = \sum_\tau k_\tau k_\tau^\top / \|k_\tau\|^2$ over the shard so far.

    The global memory $V$ takes a step a chunk, and tokens read it as it stood when their chunk began. Each local memory $W^{(i)}$ learns as it goes, and
    begins anew, from weights that are learnt, in each shard; all shards of a call are run side by side. What a local memory is asked is projected on what
    its shard has shown it, since of other directions it knows nothing.

    Symbols: $V$ the state ``global_``, $C_G$ the rule's ``update_every``, $C_L$, $S_L$ see ``Local``, $P$ the states ``projections``. Source: TNT
    equations 5 to 7 and 13 to 15, with sums from the start of the shard on, as in its appendix C; that each memory has gates of its own is ours.

    Args:
        dim: Width of the stream.
        heads: Memories of each kind side by side, each with its own weights.
        rule: What the global memory is, holds, lets go, and how it moves, and its clocks; None takes ``presets.tnt()``.
        locals: The local memories.
        gates: How tokens become rates of learning and forgetting, for each memory by itself.
        projections: How tokens become queries, keys and values, the same for all memories.
        output: What becomes of the sum of the memories' answers.
        engine: ``"auto"``, an engine's name, or an engine; never changes the answer.

    Raises:
        ValueError: ``heads`` does not divide ``dim``, or parts do not fit each other.
        EngineRefusal: The engine asked for does not run a memory's rule.

    Examples:
        >>> from retain.layers import Local, TNTMemory
        >>> memory = TNTMemory(16, heads=2, rule=presets.tnt(chunk=8), locals=(Local(chunk=4, shard=16), Local(chunk=1, shard=8)))
        >>> x = torch.randn(1, 50, 16)
        >>> whole, _ = memory(x)
        >>> first, state = memory(x[:, :21])
        >>> second, state = memory(x[:, 21:], state)
        >>> torch.allclose(whole, torch.cat([first, second], dim=1), atol=1e-5)
        True
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 1,
        rule: MemoryRule | None = None,
        locals: tuple[Local, ...] = (Local(),),
        gates: Gates = Gates(),  # noqa: B008  frozen values, not calls with an effect
        projections: Projections = Projections(),  # noqa: B008
        output: Output = Output(),  # noqa: B008
        engine: str | AbstractEngine = "auto",
    ) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"heads must be positive and divide dim, got heads={heads} and dim={dim}.")
        if projections.values == "next":
            raise ValueError("Projections(values='next') binds pairs within a step, and local memories take a step a token. Use values='same'.")
        self.dim, self.heads, head_dim, self.locals = dim, heads, dim // heads, locals
        self.rule = presets.tnt() if rule is None else rule
        rules = (self.rule, *(local.clocked(self.rule) for local in locals))
        if any(rule.anchor.residual == "weights" for rule in rules):
            raise ValueError("Anchor(residual='weights') takes gradients beside another layer's memory, and TNTMemory is called beside none.")
        self.key_dim, *_ = [projections.key_width(head_dim, rule) for rule in rules]  # the same for all that bear it
        self.projections = projections.build(dim, heads, head_dim)
        self.memories = nn.ModuleList(
            _Memory(rule, select(rule, engine), gates.build(dim, heads, (self.key_dim, head_dim), projections.pairs, rule), (self.key_dim, head_dim))
            for rule in rules
        )
        self.output = output.build(dim, heads, head_dim)

    @property
    def parts(self) -> tuple[_Memory, ...]:
        """The global memory, and the local ones."""
        return tuple(part for part in self.memories if isinstance(part, _Memory))

    def start(self, batch: int) -> TNTState:
        """The state before the first token of ``batch`` streams: the learnt initial memories in every row, in float32 or better."""
        global_, *inner = (part.start(batch) for part in self.parts)
        tail = self.projections.tail(batch)
        buffers = {**global_.buffers, **({} if tail is None else {"tail": tail})}
        sums = tuple(self._no_keys(batch) for _ in inner)
        return TNTState(global_=replace(global_, buffers=buffers), locals=tuple(inner), projections=sums)

    def reset(self, state: TNTState, rows: Tensor) -> TNTState:
        """``state`` with the rows of a mask [batch] back at the start of their streams."""
        return TNTState.where(rows, self.start(state.batch), state)

    def forward(
        self,
        x: Stream,
        state: TNTState | None = None,
        *,
        mask: TokenMask | None = None,
        cu_seqlens: Tensor | None = None,
        write: bool = True,
        write_mask: TokenMask | None = None,
    ) -> tuple[Tensor, TNTState]:
        """Read a stretch of each row's stream, and go on exactly where ``state`` stopped.

        Args:
            x: Tokens [batch, time, dim].
            state: What the stretch before this one left behind; None at the start of a stream.
            mask: True where there is a token, False where there is padding [batch, time]. Padding leaves no trace, wherever it lies; its outputs are zero.
            cu_seqlens: Bounds of sequences packed behind each other into one row ``x`` [1, time, dim], as in ``[0, 3, 10]``; each is a row of the state.
            write: False reads only: the memories answer as they stand, and the state comes back unchanged, its clock and convolution included.
            write_mask: True where a token is stored. The others are read at and seen by the convolution, and the clock passes them, but no memory takes a
                step for them, and no projection counts them.

        Returns:
            Outputs [batch, time, dim] and the state behind the stretch.

        Raises:
            StateMismatch: The state belongs to another layer or another number of rows.
            ValueError: Shapes do not fit, or ``write=False`` is asked of memories whose tokens see each other.
        """
        check_stream(x, self.dim, write_mask=write_mask)
        rows = Rows.of(x, mask, cu_seqlens)
        x_rows = rows.gather(x)
        before = self._checked(state, x_rows.shape[0])
        views = self.projections.views(x_rows, (x_rows, x_rows))
        exact, buffers = next(iter(before.global_.accumulator.values())).dtype, before.global_.buffers
        *parts, tail = self.projections(views, buffers.get("tail"), rows.lengths)
        q, k, v = (part.to(exact) for part in parts)
        if not write:
            return rows.scatter(self.output(self._still(q, before), views[0])), before
        written = None if write_mask is None else rows.gather(write_mask)
        tokens = Tokens(q=q, k=k, v=v, lr=torch.ones_like(k[..., 0]), write=written)
        part, *inner = self.parts
        gates, sums = part.gates(views[1], buffers.get("gates"), before.clock, rows.lengths, self.projections.reach)
        y, global_, _ = part.engine.run(part.rule, _gated(tokens, gates), before.global_, rows.lengths)
        kept = {name: buffer for name, buffer in (("tail", tail), ("gates", sums)) if buffer is not None}
        after = []
        for local, part, memory, keys in zip(self.locals, inner, before.locals, before.projections, strict=True):
            asked, keys = self._project(tokens, keys, rows.lengths, local.shard)
            gates, _ = part.gates(views[1], None, memory.clock, rows.lengths, self.projections.reach)
            here = _gated(replace(tokens, q=asked), gates)
            read, memory = in_shards(part.engine, part.rule, here, memory, rows.lengths, shard=local.shard, start=part.start)
            y = y + read
            after.append((memory, keys))
        memories, projections = (tuple(pair[i] for pair in after) for i in range(2))
        state = TNTState(global_=replace(global_, buffers=kept), locals=memories, projections=projections)
        return rows.scatter(self.output(y, views[0])), state

    def _project(self, tokens: Tokens, keys: MemoryState, lengths: Tensor, shard: int) -> tuple[Tensor, MemoryState]:
        """Queries projected on the keys of the shard so far, and the sum of these behind the tokens."""
        squares = tokens.k.square().sum(-1, keepdim=True)
        unit = tokens.k / squares.clamp(min=torch.finfo(squares.dtype).tiny ** 0.5)  # a key of nothing counts for nothing
        return in_shards(_COUNTING, _KEYS, replace(tokens, v=unit), keys, lengths, shard=shard, start=self._no_keys)

    def _still(self, q: Tensor, state: TNTState) -> Tensor:
        """What the memories answer as they stand."""
        every_row = torch.ones(state.batch, dtype=torch.bool)
        (part, *inner) = self.parts
        y = part.read(state.global_, q)
        for local, part, memory, projection in zip(self.locals, inner, state.locals, state.projections, strict=True):
            sums = begun(projection, every_row, local.shard, self._no_keys)
            y = y + part.read(begun(memory, every_row, local.shard, part.start), answered(_KEYS, weights_of(_KEYS, sums), q))
        return y

    def _no_keys(self, batch: int) -> MemoryState:
        """The state of a projection in a shard that has shown nothing yet."""
        like = next(iter(self.parts[0].initial.values()))
        exact = torch.promote_types(like.dtype, torch.float32)
        return MemoryState.start(_KEYS, {"w": like.new_zeros(self.heads, self.key_dim, self.key_dim, dtype=exact)}, batch)

    def _checked(self, state: TNTState | None, batch: int) -> TNTState:
        if state is None:
            return self.start(batch)
        check_batch(state.batch, batch)
        got = [_held(part) for part in (state.global_, *state.locals)]
        expected = [({name: (batch, *w.shape) for name, w in part.initial.items()}, part.rule.learner.moments) for part in self.parts]
        sums = {tuple(w.shape) for part in state.projections for w in part.accumulator.values()}
        if got != expected or len(state.projections) != len(self.locals) or not sums <= {(batch, self.heads, self.key_dim, self.key_dim)}:
            raise StateMismatch(
                f"the state is not one of this layer's: its memories hold these weights and numbers of moments, {got}, and this layer's, {expected}; "
                f"{len(state.projections)} projections hold weights of shapes {sorted(sums)}, and this layer's are {self.key_dim} wide."
            )
        return state


_KEYS = presets.linear_attention()
"""The rule of a projection: with keys $k$ and values $k / \\|k\\|^2$ the matrix of linear attention is the sum of their products."""
_COUNTING = select(_KEYS)


class _Memory(nn.Module):
    """One of the memories of a layer: its rule, who runs it, its gates and its learnt initial weights."""

    def __init__(self, rule: MemoryRule, engine: AbstractEngine, gates: GateMap, widths: tuple[int, int]) -> None:
        super().__init__()
        self.rule, self.engine, self.gates = rule, engine, gates
        fresh = rule.structure.init(gates.heads, *widths)
        self.initial = nn.ParameterDict(OrderedDict((name, nn.Parameter(weight)) for name, weight in fresh.items()))  # a plain dict would be sorted

    def start(self, batch: int) -> MemoryState:
        """The state before the first token of ``batch`` streams."""
        weights = {name: w.to(torch.promote_types(w.dtype, torch.float32)) for name, w in self.initial.items()}
        buffers = {"gates": self.gates.weight.new_zeros(batch, self.gates.pooled)} if self.gates.pooled else {}
        return replace(MemoryState.start(self.rule, weights, batch), buffers=buffers)

    def read(self, state: MemoryState, q: Tensor) -> Tensor:
        """What the memory answers as it stands to queries [batch, time, heads, key]."""
        return answered(self.rule, weights_of(self.rule, state), q)


def _gated(tokens: Tokens, gates: Mapping[str, Tensor | None]) -> Tokens:
    """The tokens with these gates, in their own precision."""
    return replace(tokens, **{name: None if gate is None else gate.to(tokens.k.dtype) for name, gate in gates.items()})


def _held(state: MemoryState) -> tuple[dict[str, tuple[int, ...]], int]:
    return {name: tuple(w.shape) for name, w in state.accumulator.items()}, len(state.moments)
