"""The self-modifying memory layer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from retain.core.called import called_as
from retain.core.errors import StateMismatch
from retain.core.shapes import Stream, TokenMask
from retain.core.state import MemoryState
from retain.core.trees import each
from retain.layers.output import Output
from retain.layers.rows import Rows, check_batch, check_stream
from retain.layers.short_conv import ShortConv
from retain.memory.structure import MLP, Matrix, ResidualMLP

from .chunks import at_rest, in_chunks
from .rule import NAMES, NUMBERS, Circuit, Rates, SelfModifyingRule, Views, in_every_row, logit, part, whole

Way = Callable[[Circuit, Views, MemoryState, Tensor], tuple[Tensor, MemoryState]]


class SelfModifyingMemory(nn.Module):
    r"""Memories that write themselves: $y_t = M_\mathrm{memory}(q_t)$, and $k_t = M_k(x_t)$, $v_t = M_v(x_t)$, $\eta_t = M_\eta(x_t)$, $\alpha_t = M_\alpha(x_t)$.

    Each memory $M_\square$ holds, for the key $k_t$, the value that it makes of $v_t$ itself, $\hat v_{\square,t} = M_\square(v_t)$, and lets go at the rate and with
    the gate that two of them make; see ``SelfModifyingRule``. All are read as they stood when their chunk began, and gradients flow through every write, so
    what is learnt in the end are their first states, and how queries are made.

    Symbols: ``eta`` $\eta$, ``alpha`` $\alpha$, ``chunk`` $C$. Source: Nested Learning equations 76 to 95. The paper counts the queries among what memories
    make (equation 85) and makes them by $q_t = x_t W_q$, the only projection that stands still; that is the default here, and ``adaptive`` may name ``q``.
    Heads, the starts, and that a short convolution comes before all else are ours.

    Args:
        dim: Width of the stream.
        heads: Sets of memories side by side, each of which reads its part of the stream.
        structure: ``ResidualMLP``, or ``Matrix``. Memories that answer with a number are the same without the residual.
        rule: What happens at each token.
        rates: Ranges and starts of the gates.
        adaptive: Names of the memories that are written, of ``k``, ``v``, ``q``, ``eta``, ``alpha`` and ``memory``; None for all but ``q``. The others stand still
            where they begin: slow weights.
        conv: Width of the short convolution, the token itself included; 1 for none.
        output: What becomes of the answers.

    Raises:
        ValueError: ``heads`` does not divide ``dim``, or ``adaptive`` names what there is not.

    Examples:
        >>> memory = SelfModifyingMemory(16, heads=2)
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
        structure: ResidualMLP | Matrix = ResidualMLP(),  # noqa: B008  frozen values, not calls with an effect
        rule: SelfModifyingRule = SelfModifyingRule(),  # noqa: B008
        rates: Rates = Rates(),  # noqa: B008
        adaptive: frozenset[str] | None = None,
        conv: int = 4,
        output: Output = Output(gate=None, project=False),  # noqa: B008
    ) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"heads must be positive and divide dim, got heads={heads} and dim={dim}.")
        there = [name for name in NAMES if name != "alpha" or rule.decay]
        adaptive = frozenset(there) - {"q"} if adaptive is None else adaptive
        if not adaptive or not adaptive <= set(there):
            why = "" if rule.decay else "; there is no alpha with decay=False"
            raise ValueError(f"adaptive names at least one of the memories {', '.join(there)}, got {', '.join(sorted(adaptive)) or 'none'}{why}.")
        self.dim, self.heads, self.rule, self.rates, self.structure = dim, heads, rule, rates, structure
        self.adaptive = tuple(name for name in there if name in adaptive)
        small = MLP(depth=2, expansion=structure.expansion, activation=structure.activation) if isinstance(structure, ResidualMLP) else structure
        self.structures = (structure, small)
        memories = [name for name in there if name != "q" or "q" in adaptive]
        fresh = whole({name: self._fresh(name, dim // heads) for name in memories})
        self.initial = nn.ParameterDict(OrderedDict((path, nn.Parameter(weight)) for path, weight in fresh.items()))
        starts = {name: rates.start(name, rule) for name in there if name in NUMBERS}
        self.biases = nn.ParameterDict({name: nn.Parameter(torch.full((heads,), start)) for name, start in starts.items()})
        self.to_q = None if "q" in adaptive else nn.Linear(dim, dim, bias=False)
        self.to_momentum = None if rule.momentum is None else nn.Linear(dim, heads)
        if self.to_momentum is not None and rule.momentum is not None:
            nn.init.zeros_(self.to_momentum.weight)
            nn.init.constant_(self.to_momentum.bias, logit(rule.momentum))
        self.conv = ShortConv(dim, conv) if conv > 1 else None
        self.output = output.build(dim, heads, dim // heads)
        self.way: Way = in_chunks  # or its meaning, ``token_by_token``

    def _fresh(self, name: str, width: int) -> dict[str, Tensor]:
        """First weights of one memory: near the identity, or near zero if it answers with a number."""
        values = 1 if name in NUMBERS else width
        if isinstance(self.structure, Matrix):
            noise = torch.randn(self.heads, width, values) * 0.1 * width**-0.5
            return {self.structure.weight: noise if name in NUMBERS else noise + torch.eye(width)}
        # an MLP's first weights are those of inputs that are one long
        start = ResidualMLP(expansion=self.structure.expansion).init(self.heads, width, width)
        return {**start, "w1": start["w1"][..., :values].clone()}

    def start(self, batch: int) -> MemoryState:
        """The state before the first token of ``batch`` streams: the learnt first memories in every row, in float32 or better."""
        memories = self._memories
        weights = in_every_row(whole({name: memories[name] for name in self.adaptive}), batch)
        moments = () if self.rule.momentum is None else (each(torch.zeros_like, weights),)
        buffers = {} if self.conv is None else {"tail": self.conv.weight.new_zeros(batch, self.conv.width - 1, self.dim)}
        return MemoryState(anchor=weights, accumulator=weights, moments=moments, clock=torch.zeros(batch, dtype=torch.long), buffers=buffers)

    def reset(self, state: MemoryState, rows: Tensor) -> MemoryState:
        """``state`` with the rows of a mask [batch] back at the start of their streams."""
        return MemoryState.where(rows, self.start(state.batch), state)

    def forward(
        self,
        x: Stream,
        state: MemoryState | None = None,
        *,
        mask: TokenMask | None = None,
        cu_seqlens: Tensor | None = None,
        write: bool = True,
        write_mask: TokenMask | None = None,
    ) -> tuple[Tensor, MemoryState]:
        """Read a stretch of each row's stream, and go on exactly where ``state`` stopped.

        Args:
            x: Tokens [batch, time, dim].
            state: What the stretch before this one left behind; None at the start of a stream.
            mask: True where there is a token, False where there is padding [batch, time]. Padding leaves no trace, wherever it lies; its outputs are zero.
            cu_seqlens: Bounds of sequences packed behind each other into one row ``x`` [1, time, dim], as in ``[0, 3, 10]``; each is a row of the state.
            write: False reads only: the memory answers with all that was written so far, that of the chunk under way included, and the state comes back
                unchanged, its clock and convolution included.
            write_mask: True where a token is stored. The others are read at and seen by the convolution, and the clock passes them, but no memory takes a
                step for them.

        Returns:
            Outputs [batch, time, dim] and the state behind the stretch.

        Raises:
            StateMismatch: The state belongs to another layer or another number of rows.
            ValueError: Shapes do not fit.
        """
        check_stream(x, self.dim, write_mask=write_mask)
        rows = Rows.of(x, mask, cu_seqlens)
        x_rows = rows.gather(x)
        before = self._checked(state, x_rows.shape[0])
        seen, tail = (x_rows, None) if self.conv is None else self.conv(x_rows, before.buffers["tail"], rows.lengths)
        views = self._views(seen, None if write_mask is None else rows.gather(write_mask))
        circuit = self.circuit()
        with torch.autocast(x.device.type, enabled=False):  # memories are kept in float32, and so is what moves them
            if write:
                y, after = self.way(circuit, views, before, rows.lengths)
                after = replace(after, buffers={} if tail is None else {"tail": tail})
            else:
                y, after = at_rest(circuit, views, before.accumulator), before
        return rows.scatter(self.output(y, x_rows)), after

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self, *given: Any, **named: Any) -> Any: ...

    def circuit(self) -> Circuit:
        """What is run, with the slow weights as they are now."""
        still = {name: weights for name, weights in self._memories.items() if name not in self.adaptive}
        return Circuit(
            rule=self.rule, rates=self.rates, structures=self.structures, written=self.adaptive, still=still, biases=dict(self.biases.items())
        )

    @property
    def _memories(self) -> dict[str, dict[str, Tensor]]:
        """First weights of each memory there is, by name."""
        initial = dict(self.initial.items())
        return {name: weights for name in NAMES if (weights := part(initial, name))}

    def _views(self, x: Tensor, write: Tensor | None) -> Views:
        exact = torch.promote_types(next(iter(self.initial.values())).dtype, torch.float32)
        q = None if self.to_q is None else self.to_q(x).to(exact).unflatten(-1, (self.heads, -1))
        momentum = None if self.to_momentum is None else torch.sigmoid(self.to_momentum(x).to(exact))
        return Views(x=x.to(exact).unflatten(-1, (self.heads, -1)), q=q, momentum=momentum, write=write)

    def _checked(self, state: MemoryState | None, batch: int) -> MemoryState:
        if state is None:
            return self.start(batch)
        check_batch(state.batch, batch)
        expected, got = ({path: tuple(w.shape) for path, w in held.accumulator.items()} for held in (self.start(batch), state))
        moments = 0 if self.rule.momentum is None else 1
        if got != expected or len(state.moments) != moments or ("tail" in state.buffers) != (self.conv is not None):
            raise StateMismatch(
                f"the state is not one of this layer's: it holds weights {got}, {len(state.moments)} moments and the buffers {sorted(state.buffers)}; this "
                f"layer's has {expected}, {moments} and {sorted(self.start(batch).buffers)}."
            )
        return state
