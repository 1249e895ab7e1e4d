"""The memory layer."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from retain.core.called import called_as
from retain.core.engine import AbstractEngine
from retain.core.errors import StateMismatch
from retain.core.rule import MemoryRule
from retain.core.shapes import Params, Stream, TokenMask
from retain.core.state import MemoryState
from retain.core.tokens import Tokens
from retain.engines import Trail, answered, completed, in_steps, select, weights_of
from retain.memory import presets

from .gates import Gates
from .lookahead import behind
from .output import Output
from .projections import Projections
from .rows import Given, Rows, check_batch, check_stream


class NeuralMemory(nn.Module):
    r"""A layer whose state is the weights of a small network, rewritten by gradient steps while it reads.

    $(q_t, k_t, v_t, \theta_t, \eta_t, \alpha_t) = f(x_t)$; the memory takes a step towards $M(k_t) = v_t$ and answers $y_t = M(q_t)$, as its ``rule``
    says. Gradients flow through every write, so the slow weights, and the memory's initial weights, learn how to be rewritten.

    Symbols: ``lr`` $\theta$, ``momentum`` $\eta$, ``retain`` $1-\alpha$. Source: Titans section 3 with the data flow of section 4.4.

    Args:
        dim: Width of the stream.
        heads: Memories side by side, each with its own weights.
        head_dim: Width of a head; ``dim // heads`` unless given.
        rule: What the memory is, holds, lets go, and how it moves.
        gates: How tokens become rates of learning and forgetting.
        projections: How tokens become queries, keys and values.
        output: What becomes of the memory's answer.
        engine: ``"auto"``, an engine's name, or an engine; never changes the answer.

    Raises:
        ValueError: ``heads`` does not divide ``dim`` and no ``head_dim`` is given, or parts do not fit each other.
        EngineRefusal: The engine asked for does not run the rule.

    Examples:
        >>> memory = NeuralMemory(16, heads=2)
        >>> x = torch.randn(1, 100, 16)
        >>> whole, _ = memory(x)
        >>> first, state = memory(x[:, :37])
        >>> second, state = memory(x[:, 37:], state)
        >>> torch.allclose(whole, torch.cat([first, second], dim=1), atol=1e-5)
        True
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 1,
        head_dim: int | None = None,
        rule: MemoryRule | None = None,
        gates: Gates = Gates(),  # noqa: B008  frozen values, not calls with an effect
        projections: Projections = Projections(),  # noqa: B008
        output: Output = Output(),  # noqa: B008
        engine: str | AbstractEngine = "auto",
    ) -> None:
        super().__init__()
        if heads < 1 or (head_dim is None and dim % heads):
            raise ValueError(f"heads must be positive and divide dim unless head_dim is given, got heads={heads} and dim={dim}.")
        self.dim, self.heads, self.head_dim = dim, heads, head_dim or dim // heads
        self.rule = presets.titans() if rule is None else rule
        if projections.values == "next" and self.rule.step_every * projections.pairs == 1:
            raise ValueError(
                "Projections(values='next') binds pairs within a step, and a step of one pair has none to bind; use a rule with step_every > 1."
            )
        self.engine = select(self.rule, engine)
        self.key_dim = projections.key_width(self.head_dim, self.rule)
        self.projections = projections.build(dim, heads, self.head_dim)
        self.gates = gates.build(dim, heads, (self.key_dim, self.head_dim), projections.pairs, self.rule)
        self.output = output.build(dim, heads, self.head_dim)
        fresh = self.rule.structure.init(heads, self.key_dim, self.head_dim)
        self.shapes = {name: (heads, *weight.shape[1:]) for name, weight in fresh.items()}
        self.initial = nn.ParameterDict(OrderedDict((name, nn.Parameter(weight)) for name, weight in fresh.items()))  # a plain dict would be sorted

    def start(self, batch: int) -> MemoryState:
        """The state before the first token of ``batch`` streams: the learnt initial memory in every row, in float32 or better."""
        weights = {name: w.to(torch.promote_types(w.dtype, torch.float32)) for name, w in self.initial.items()}
        heads = {name: w.expand(self.heads, *w.shape[1:]) for name, w in weights.items()}
        like, buffers = self.gates.weight, {}
        if self.projections.projections.values == "next":
            buffers["ahead"] = like.new_zeros(batch, self.heads, self.key_dim + 1)
        tail = self.projections.tail(batch)
        if tail is not None:
            buffers["tail"] = tail
        if self.gates.pooled:
            buffers["gates"] = like.new_zeros(batch, self.gates.pooled)
        return replace(MemoryState.start(self.rule, heads, batch), buffers=buffers)

    def share_initial(self) -> NeuralMemory:
        """Give all heads one initial memory, their mean as it is now, to learn together; returns the layer."""
        for name, weight in self.initial.items():
            self.initial[name] = nn.Parameter(weight.detach().mean(0, keepdim=True))
        return self

    def reset(self, state: MemoryState, rows: Tensor) -> MemoryState:
        """``state`` with the rows of a mask [batch] back at the start of their streams."""
        return MemoryState.where(rows, self.start(state.batch), state)

    def write_cost(self, x: Stream, margin: float = 0.0) -> Tensor:
        """How open the learning and forgetting gates stand on these tokens, from 0 to 2: a scalar to add to the outer loss (ours, not the papers').

        A gate is told open by ``margin`` more than it stands, before its curve: with the hard curve it is shut for nothing only once it is shut by that
        much, and then text that was never seen finds it shut, too.
        """
        return self.openness(x, margin).mean()

    def openness(self, x: Stream, margin: float = 0.0) -> Tensor:
        """How open the learning and forgetting gates stand on each of these tokens, from 0 to 2 [batch, time]; see ``write_cost``."""
        return self.gates.cost(self.projections.views(x, (x, x))[1], margin)

    def weights(self, state: MemoryState) -> Params:
        """The weights with which the memory would answer now, those of its last whole step: each [batch, heads, ...]."""
        return weights_of(self.rule, state)

    def retrieve(self, x: Stream, weights: Params, tail: Tensor | None = None, *, mask: TokenMask | None = None) -> tuple[Tensor, Tensor | None]:
        r"""What a memory that stands still answers: $M^*(q_t)$, a forward pass without update. Source: Titans equations 15 and 21.

        Args:
            x: Tokens [batch, time, dim].
            weights: Those of the memory at some earlier time; see ``weights``.
            tail: The tail of the convolution that the call before this one left behind; None at the start of a stream.
            mask: True where there is a token [batch, time].

        Returns:
            Answers [batch, time, dim], zero where there is no token, and the tail of the convolution.

        Raises:
            ValueError: Tokens of this memory see each other, so that none can be read by itself.
        """
        rows = Rows.of(x, mask, None)
        x_rows = rows.gather(x)
        views = self.projections.views(x_rows, (x_rows, x_rows))
        q, _, _, tail = self.projections(views, tail, rows.lengths)
        y = answered(self.rule, weights, q.to(next(iter(weights.values())).dtype))
        return rows.scatter(self.output(y, views[0])), tail

    def forward(
        self,
        x: Stream,
        state: MemoryState | None = None,
        *,
        store: Tensor | tuple[Tensor, Tensor] | None = None,
        mask: TokenMask | None = None,
        cu_seqlens: Tensor | None = None,
        write: bool = True,
        write_mask: TokenMask | None = None,
        emphasis: Tensor | None = None,
        beside: Trail | None = None,
        return_surprise: bool = False,
        return_weights: bool = False,
    ) -> tuple[Tensor, MemoryState, Unpack[tuple[Any, ...]]]:
        """Read a stretch of each row's stream, and go on exactly where ``state`` stopped.

        Args:
            x: Tokens [batch, time, dim].
            state: What the stretch before this one left behind; None at the start of a stream.
            store: What is written, if that is not ``x``, token by token beside it [batch, time, dim]; or a pair, what keys and gates are made of and what
                values are made of. Reading alone is by ``x``.
            mask: True where there is a token, False where there is padding [batch, time]. Padding leaves no trace, wherever it lies; its outputs are zero.
            cu_seqlens: Bounds of sequences packed behind each other into one row ``x`` [1, time, dim], as in ``[0, 3, 10]``; each is a row of the state.
            write: False reads only: the memory answers as it stands, and the state comes back unchanged, its clock and convolution included.
            write_mask: True where a token is stored. The others are read at and seen by the convolution, and the clock passes them, but the memory takes
                no step for them.
            emphasis: What each token's learning rate is multiplied by [batch, time]. A token of emphasis 0 leaves no trace of itself, but unlike one that is not written it
                takes its part in the step, whose forgetting and momentum go on.
            beside: Where the weights of another memory stood along this call, for rules with ``residual="weights"``; see ``return_weights``.
            return_surprise: Whether to return each token's surprise as well.
            return_weights: Whether to return, last of all, the ``Trail`` of the memory's weights: a copy for each step. The call then goes step by step.

        Returns:
            Outputs [batch, time, dim], the state behind the stretch and, if asked for, the surprise [batch, time, heads]: the attentional bias' loss of
            each token at the weights where its gradient was taken.

        Raises:
            StateMismatch: The state belongs to another layer or another number of rows.
            ValueError: Shapes do not fit, or ``beside`` is missing, unwanted, or of a memory that takes its steps elsewhere.
        """
        check_stream(x, self.dim, write_mask=write_mask, emphasis=emphasis)
        stored = store if isinstance(store, tuple) else (x, x) if store is None else (store, store)
        for part in stored:
            if part.shape != x.shape:
                raise ValueError(
                    f"what is stored lies token by token beside what is read: store must have x's shape {list(x.shape)}, got {list(part.shape)}."
                )
        if (beside is None) == (self.rule.anchor.residual == "weights"):
            raise ValueError(
                f"beside= goes with residual='weights' and with nothing else: the rule has residual={self.rule.anchor.residual!r}, and beside= is "
                f"{'missing. Call the other memory with return_weights=True' if beside is None else 'given'}."
            )
        rows = Rows.of(x, mask, cu_seqlens)
        x_rows = rows.gather(x)
        keys = x_rows if stored[0] is x else rows.gather(stored[0])
        values = keys if stored[1] is stored[0] else x_rows if stored[1] is x else rows.gather(stored[1])
        before = self._checked(state, x_rows.shape[0])
        writes = None if write_mask is None else rows.gather(write_mask)
        if not write:
            writes = torch.zeros(x_rows.shape[:2], dtype=torch.bool, device=x.device)
        given = Given(x_rows, keys, values, rows.lengths, writes, None if emphasis is None else rows.gather(emphasis))
        trail: Trail | None = None
        if return_weights or beside is not None:
            tokens, buffers, view = self._prepared(given, before)
            y, after, surprise, trail = in_steps(self.engine, self.rule, tokens, before, rows.lengths, beside)
            after = replace(after, buffers=buffers)
        else:
            y, view, after, surprise = self._advance(given, before, write, return_surprise)
        y = rows.scatter(self.output(y, view))
        after = after if write else before
        return y, after, *([rows.scatter(surprise)] if return_surprise else []), *([trail] if return_weights else [])

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self, *given: Any, **named: Any) -> Any: ...

    def _advance(self, given: Given, before: MemoryState, write: bool, surprises: bool) -> tuple[Tensor, Tensor, MemoryState, Tensor]:
        """The memory's answers, what else the output is made of, the state behind the tokens, and their surprise, which need not be right if none is asked for."""
        tokens, buffers, view = self._prepared(given, before)
        y, after, surprise = self.engine.run(self.rule, tokens, before, given.lengths)
        if not write and before.context is None and tokens.q is not None:
            y = answered(self.rule, weights_of(self.rule, before), tokens.q)  # whatever the clock would have completed on the way
        return y, view, replace(after, buffers=buffers), surprise

    def _prepared(self, given: Given, before: MemoryState) -> tuple[Tokens, dict[str, Tensor], Tensor]:
        """What the engine is fed, what the layer remembers beside it, and what is read with."""
        views, buffers = self.projections.views(given.x, (given.keys, given.values)), before.buffers
        q, k, v, tail = self.projections(views, buffers.get("tail"), given.lengths)
        tokens, buffers = self._gated((q, k, v), views[1], given, before)
        return tokens, buffers if tail is None else {**buffers, "tail": tail}, views[0]

    def settle(self, state: MemoryState) -> MemoryState:
        """The state at the end of the step that is under way in a row, as if its missing tokens had come, of which none is written.

        What was read of the step is learnt by this, with the gates of the last token, and can be asked for: else it waits for the step to be complete. A
        row in which no step is under way stays as it is. It is a cut in the stream: what comes next is learnt in a step of its own.

        Examples:
            >>> memory = NeuralMemory(8, rule=presets.titans(update_every=4, step_every=4))
            >>> _, state = memory(torch.randn(1, 6, 8))
            >>> memory.settle(state).clock.tolist()
            [8]
        """
        after = completed(self.engine, self.rule, state)
        sums = state.buffers.get("gates")
        if after is state or sums is None:
            return after
        moved = (after.clock != state.clock).to(sums.device)
        return replace(after, buffers={**state.buffers, "gates": torch.where(moved[:, None], torch.zeros_like(sums), sums)})

    def _gated(self, made: tuple[Tensor, Tensor, Tensor], view: Tensor, given: Given, before: MemoryState) -> tuple[Tokens, dict[str, Tensor]]:
        """Queries, keys and values with the gates that go with them, and what is to be remembered of these."""
        (q, k, v), exact, buffers = made, next(iter(before.accumulator.values())).dtype, before.buffers
        reach = v.square().sum(-1).clamp(min=1) if self.rule.bias.transposed else self.projections.reach
        gates, sums = self.gates(view, buffers.get("gates"), before.clock, given.lengths, reach)
        if given.emphasis is not None:
            gates["lr"] = gates["lr"] * given.emphasis[:, :, None, None]
        ahead = own = None
        if self.projections.projections.values == "next":
            k, gates["lr"], own, ahead = behind(k, gates["lr"], buffers.get("ahead"), before.clock, given.lengths, self.rule.step_every)
        exactly: dict[str, Any] = {name: x if x is None else x.to(exact) for name, x in {"q": q, "k": k, "v": v, **gates}.items()}
        tokens = Tokens(**exactly, write=given.writes, visible=None if before.context is None else own)
        return tokens, {name: buffer for name, buffer in (("ahead", ahead), ("gates", sums)) if buffer is not None}

    def _checked(self, state: MemoryState | None, batch: int) -> MemoryState:
        if state is None:
            return self.start(batch)
        check_batch(state.batch, batch)
        got, held = {name: tuple(w.shape) for name, w in state.accumulator.items()}, len(state.moments)
        expected = {name: (batch, *shape) for name, shape in self.shapes.items()}
        if got != expected or held != self.rule.learner.moments:
            raise StateMismatch(
                f"the state is not one of this layer's: it holds weights {got} and {held} moments, "
                f"this layer's has {expected} and {self.rule.learner.moments}."
            )
        return state
