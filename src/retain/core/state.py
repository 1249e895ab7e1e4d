"""The state of a memory in the middle of a stream: a value that goes in and comes out."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from .errors import StateMismatch
from .rule import MemoryRule
from .shapes import Params
from .tokens import Tokens
from .trees import each


@dataclass(frozen=True, kw_only=True)
class Pending:
    """Tokens that were read but are not yet folded into the accumulator: those of an unfinished step, or of an unfinished segment.

    Row ``b`` holds ``count[b]`` of them, from the left. ``factors`` is what an engine may keep of their gradients so as not to take them again: for
    each weight, pairs (inputs, output gradients) whose products are the gradient; it follows from the tokens and the anchor. ``composition`` is what
    it may keep of their gates: how much of each state, and of each of those gradients, is in each state by now.
    """

    tokens: Tokens
    count: Tensor  # [batch], on the host
    factors: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)  # each [batch, heads, time * pairs, width]
    composition: Tensor | None = None  # [batch, heads, states, states + time * pairs]


@dataclass(frozen=True, kw_only=True)
class MemoryState:
    """Everything a stream has left behind, row by row. It never changes; every operation gives a new one.

    Rows never influence each other and may stand at different places of their streams. The state keeps no history, so its size does not grow with
    what was read. Keeping a state is a snapshot; going on from it is a roll-back; going on from it twice is a fork.

    Args:
        anchor: What retention kept as of the last boundary; gradients are taken at the weights that it exposes. Each [batch, heads, ...].
        accumulator: What retention keeps, as of the last folded step.
        moments: What the learner keeps (momentum), as of the last folded step.
        clock: Tokens read by each row since its stream began, pending ones included [batch], on the host.
        pending: Tokens that wait to be folded.
        beside: Weights of another memory, as they stood before the step under way; only if the rule adds them where gradients are taken.
        recent: What engines remember of the last tokens, by name: as ``q`` the ``context``, only if the structure lets tokens see each other; and what
            those to come will write again, each [batch, window - 1, ...], only if the bias has a window, and from the first call on.
        buffers: What a layer remembers beside its memory (convolution tails, gates of an unfinished step), each [batch, ...]; under names that begin with
            ``waiting_`` what it was given of an unfinished step and has not looked at yet [batch, places, ...], that of each row from the left, zero behind
            it, with as many places as the fullest row needs.

    Examples:
        >>> import torch
        >>> from retain import NeuralMemory
        >>> memory = NeuralMemory(8, heads=2)
        >>> y, state = memory(torch.randn(3, 10, 8))
        >>> state.clock.tolist(), state[1:].batch, len(state.hash())
        ([10, 10, 10], 2, 16)
    """

    anchor: Params
    accumulator: Params
    moments: tuple[Params, ...] = ()
    clock: Tensor
    pending: Pending | None = None
    beside: Params | None = None
    recent: Mapping[str, Tensor] = field(default_factory=dict)
    buffers: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def start(cls, rule: MemoryRule, initial: Params, batch: int) -> MemoryState:
        """The state before the first token: ``initial`` [heads, ...] in every row."""
        accumulator = rule.retention.start(each(lambda w: w.unsqueeze(0).expand(batch, *w.shape), initial))
        moments = rule.learner.start(accumulator)
        width, some = rule.structure.company(initial), next(iter(initial.values()))
        recent = {"q": some.new_zeros(batch, rule.step_every, some.shape[0], width)} if width else {}
        beside = each(torch.zeros_like, accumulator) if rule.anchor.residual == "weights" else None
        clock = torch.zeros(batch, dtype=torch.long)
        return cls(anchor=accumulator, accumulator=accumulator, moments=moments, clock=clock, beside=beside, recent=recent)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> MemoryState:
        """The state with these tensors by their paths: the inverse of ``tensors``."""
        tree: dict[str, Any] = {}
        for path, tensor in tensors.items():
            *branches, leaf = path.split("/")
            at = tree
            for branch in branches:
                at = at.setdefault(branch, {})
            at[leaf] = tensor
        moments, waiting, pending = tree.get("moments", {}), tree.get("pending"), None
        if waiting is not None:
            factors = {name: tuple(parts[str(i)] for i in range(len(parts))) for name, parts in waiting.get("factors", {}).items()}
            pending = Pending(tokens=Tokens(**waiting["tokens"]), count=waiting["count"], factors=factors, composition=waiting.get("composition"))
        return cls(
            anchor=tree["anchor"],
            accumulator=tree["accumulator"],
            moments=tuple(moments[str(i)] for i in range(len(moments))),
            clock=tree["clock"],
            pending=pending,
            beside=tree.get("beside"),
            recent=tree.get("recent", {}),
            buffers=tree.get("buffers", {}),
        )

    @property
    def batch(self) -> int:
        return self.clock.shape[0]

    @property
    def context(self) -> Tensor | None:
        """Queries [batch, places, heads, key] of those tokens that will be read together with the next ones and seen by them, each at its place among
        them.
        """
        return self.recent.get("q")

    @property
    def folded(self) -> Tensor:
        """Tokens of each row that the accumulator holds already [batch]."""
        return self.clock if self.pending is None else self.clock - self.pending.count

    @property
    def waiting(self) -> dict[str, Tensor]:
        """Those of the ``buffers`` that a layer has not looked at yet."""
        return {name: buffer for name, buffer in self.buffers.items() if name.startswith("waiting_")}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of the state with its path, in a fixed order."""
        found: list[tuple[str, Tensor]] = []
        _map(self, lambda path, tensor: found.append((path, tensor)) or tensor)
        yield from found

    def map(self, function: Callable[[Tensor], Tensor]) -> MemoryState:
        """``function`` applied to every tensor but the host's counters."""
        return _map(self, lambda path, tensor: tensor if path in _HOST else function(tensor))

    def detach(self) -> MemoryState:
        """The same numbers, cut off from the graph that made them."""
        return self.map(torch.Tensor.detach)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> MemoryState:
        """The state on another device, or in another floating type. Masks and counters keep theirs."""
        return self.map(lambda t: t.to(device=device, dtype=dtype if t.is_floating_point() else None))

    def clone(self) -> MemoryState:
        """A copy that shares no storage with this state."""
        return _map(self, lambda path, tensor: tensor.clone())

    def __getitem__(self, rows: slice | Tensor | list[int]) -> MemoryState:
        """The rows chosen by a slice, a list of indices (repeats allowed, as in beam search) or a mask."""
        if not isinstance(rows, slice):
            rows = torch.as_tensor(rows)
            if rows.ndim != 1:
                raise IndexError(f"rows of a state are chosen by a slice or by one axis of indices, got an index of shape {list(rows.shape)}.")
        return _map(self, lambda path, t: t[rows.to(t.device) if isinstance(rows, Tensor) else rows])

    @staticmethod
    def where(rows: Tensor, yes: MemoryState, no: MemoryState) -> MemoryState:
        """For each row, ``yes`` where the mask ``rows`` [batch] holds and ``no`` elsewhere."""
        if not (yes.batch == no.batch == rows.shape[0]):
            raise StateMismatch(f"where needs one mask entry a row, got {rows.shape[0]} entries and states of {yes.batch} and {no.batch} rows.")
        both = MemoryState.cat([yes, no])
        index = torch.arange(yes.batch) + torch.where(rows.cpu(), 0, yes.batch)
        return both[index]

    @staticmethod
    def cat(states: list[MemoryState]) -> MemoryState:
        """The rows of several states, one below the other."""
        width = max(0 if s.pending is None else s.pending.tokens.time for s in states)
        waiting = [s.pending for s in states if s.pending is not None]
        like = next((p for p in waiting if p.tokens.write is not None), waiting[0] if waiting else None)
        recent = max((s.recent for s in states), key=len, default={})
        roomy = _waiting_alike([_with_recent(_with_room(s, like, width), recent) for s in states])
        parts = [dict(s.tensors()) for s in roomy]
        if any(part.keys() != parts[0].keys() for part in parts):
            raise StateMismatch("states of different rules or layers cannot be joined: they hold different tensors.")
        return _map(roomy[0], lambda path, first: torch.cat([part[path].to(first.device) for part in parts]))

    def hash(self) -> str:
        """16 hexadecimal digits that name this state: the same for equal numbers, on every machine and in every run."""
        digest = hashlib.sha256()
        for path, tensor in self.tensors():
            digest.update(f"{path}:{tensor.dtype}:{list(tensor.shape)}".encode())
            plain = tensor.detach().cpu().contiguous()
            digest.update(ctypes.string_at(plain.data_ptr(), plain.numel() * plain.element_size()) if plain.numel() else b"")
        return digest.hexdigest()[:16]

    def norms(self) -> dict[str, Tensor]:
        """The Frobenius norm of each accumulated weight [batch, heads]."""
        return each(lambda w: w.flatten(2).norm(dim=-1), self.accumulator)

    def distance(self, other: MemoryState) -> dict[str, Tensor]:
        """How far each accumulated weight lies from the one in ``other``, say the state at the start [batch, heads]."""
        return each(lambda a, b: (a - b).flatten(2).norm(dim=-1), self.accumulator, other.accumulator)


_HOST = {"clock", "pending/count"}


def _map(value: Any, function: Callable[[str, Tensor], Tensor], path: str = "") -> Any:
    """``value`` rebuilt with ``function`` applied to each tensor in it and the path that leads there."""

    def inner(name: object, item: Any) -> Any:
        return _map(item, function, f"{path}/{name}" if path else str(name))

    if isinstance(value, Tensor):
        return function(path, value)
    if isinstance(value, Mapping):
        return {name: inner(name, value[name]) for name in sorted(value)}
    if isinstance(value, tuple):
        return tuple(inner(i, item) for i, item in enumerate(value))
    if isinstance(value, (MemoryState, Pending, Tokens)):
        return replace(value, **{f.name: inner(f.name, getattr(value, f.name)) for f in fields(value)})
    return value


def _with_room(state: MemoryState, like: Pending | None, width: int) -> MemoryState:
    """The state with room for ``width`` pending tokens, so that it can stand beside one that has them."""
    if like is None:
        return state
    tokens, count = like.tokens.map(lambda t: t.new_zeros(state.batch, 0, *t.shape[2:])), torch.zeros(state.batch, dtype=torch.long)
    if state.pending is not None:
        tokens, count = state.pending.tokens, state.pending.count
        if tokens.write is None and like.tokens.write is not None:  # all are written
            tokens = replace(tokens, write=like.tokens.write.new_ones(state.batch, tokens.time))
    room = width - tokens.time
    tokens = tokens.map(lambda t: torch.cat([t, t.new_zeros(t.shape[0], room, *t.shape[2:])], dim=1))
    return replace(state, pending=Pending(tokens=tokens, count=count))


def _with_recent(state: MemoryState, like: Mapping[str, Tensor]) -> MemoryState:
    """The state of a stream without tokens so far with tokens that were never there, so that it can stand beside one that has some."""
    return replace(state, recent={**{name: t.new_zeros(state.batch, *t.shape[1:]) for name, t in like.items()}, **state.recent})


def _waiting_alike(states: list[MemoryState]) -> list[MemoryState]:
    """The states with as many places for what waits as the fullest of them, and with all that waits in any of them."""
    like = {name: t for state in states for name, t in state.waiting.items()}
    if not like:
        return states
    places = max(t.shape[1] for state in states for t in state.waiting.values())

    def alike(state: MemoryState) -> MemoryState:
        old = {name: state.waiting.get(name, t.new_zeros(state.batch, 0, *t.shape[2:])) for name, t in like.items()}
        new = {name: torch.cat([t, t.new_zeros(t.shape[0], places - t.shape[1], *t.shape[2:])], dim=1) for name, t in old.items()}
        return replace(state, buffers={**state.buffers, **new})

    return [alike(state) for state in states]
