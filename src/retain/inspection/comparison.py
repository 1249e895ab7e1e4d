"""Two states of a memory beside each other: what changed from one to the other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from retain.core.errors import NotAStateFile, StateMismatch
from retain.core.state import MemoryState
from retain.core.trees import under
from retain.retrofit.snapshots import FORMAT as CONVERSATION
from retain.storage import read_state, unsealed
from retain.text import MadeWith
from retain.text.learner import Learner
from retain.text.opened import Opened

RECORDS = 200
"""Records of a text memory that are named at most, of those that came and of those that went."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A state as it was kept.

    Args:
        name: Where it was found.
        rule: What it was written under.
        hash: What names it.
        seen: Tokens of each row, or records, that it has read.
        tensors: Its weights and what its learner keeps beside them, by name; each [heads, ...].
        initial: The weights before the first token, where they are known.
        records: The texts that a text memory has read, by number.
    """

    name: str
    rule: str
    hash: str
    seen: tuple[int, ...]
    tensors: Mapping[str, Tensor]
    initial: Mapping[str, Tensor] | None = None
    records: Mapping[int, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Change:
    """What became of one head of one tensor.

    Args:
        tensor: Its name.
        head: The head, from 1 on.
        norms: The Frobenius norm before and after.
        moved: That of the difference.
        cosine: Of the angle between the two; not a number if either is zero.
        distances: How far both are from the initial weights, where these are known.
    """

    tensor: str
    head: int
    norms: tuple[float, float]
    moved: float
    cosine: float
    distances: tuple[float, float] | None

    @property
    def share(self) -> float:
        """How far it moved, in units of its norm before; infinite if that was zero, and it moved."""
        if not self.moved:
            return 0.0
        return self.moved / self.norms[0] if self.norms[0] else float("inf")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two states, and what changed from the first to the second.

    Examples:
        >>> import torch
        >>> before = Kept(name="a", rule="r", hash="1", seen=(1,), tensors={"w": torch.eye(2)[None]}, records={1: "old"})
        >>> after = Kept(name="b", rule="r", hash="2", seen=(2,), tensors={"w": torch.ones(1, 2, 2)}, records={1: "old", 2: "new"})
        >>> found = compare(before, after)
        >>> found.came, found.went, len(found.changes)
        ({2: 'new'}, {}, 1)
    """

    before: Kept
    after: Kept
    changes: tuple[Change, ...]

    @property
    def came(self) -> dict[int, str]:
        """The records that only the second has."""
        return _only(self.after, self.before)

    @property
    def went(self) -> dict[int, str]:
        """The records that only the first has."""
        return _only(self.before, self.after)


def compare(before: Kept, after: Kept, initial: Kept | None = None) -> Comparison:
    """What changed from one state to another, head by head of each tensor.

    Args:
        before: The first.
        after: The second.
        initial: A state from before the first token, for the distances from it; what the states know of their own initial weights if left out.

    Raises:
        StateMismatch: The states hold different tensors, and so are not of one memory.

    Examples:
        >>> import torch
        >>> before = Kept(name="a", rule="r", hash="1", seen=(1,), tensors={"w": torch.tensor([[3.0, 4.0]])})
        >>> after = Kept(name="b", rule="r", hash="2", seen=(2,), tensors={"w": torch.tensor([[3.0, 6.0]])})
        >>> change = compare(before, after).changes[0]
        >>> change.norms[0], change.moved, change.share
        (5.0, 2.0, 0.4)
    """
    first = initial.tensors if initial is not None else before.initial
    for one in (after, *([] if initial is None else [initial])):
        here, there = ({name: list(t.shape) for name, t in kept.tensors.items()} for kept in (before, one))
        if here != there:
            raise StateMismatch(f"{before.name} and {one.name} are not states of one memory: the first holds {here}, the second {there}.")
        if before.rule != one.rule:
            raise StateMismatch(f"{before.name} and {one.name} are not states of one memory.\n  the first:  {before.rule}\n  the second: {one.rule}")
    changes = []
    for name, old in before.tensors.items():
        for head in range(len(old)):
            a, b = (kept.tensors[name][head].flatten().double() for kept in (before, after))
            start = None if first is None or name not in first else first[name][head].flatten().double()
            norms = float(a.norm()), float(b.norm())
            changes.append(
                Change(
                    tensor=name,
                    head=head + 1,
                    norms=norms,
                    moved=float((b - a).norm()),
                    cosine=float(a @ b) / (norms[0] * norms[1]) if norms[0] and norms[1] else float("nan"),
                    distances=None if start is None else (float((a - start).norm()), float((b - start).norm())),
                )
            )
    return Comparison(before=before, after=after, changes=tuple(changes))


def state_in(path: Path) -> Kept:
    """A state that ``save_state`` wrote, or the memories of a conversation that ``save_memory`` wrote, layer by layer. Of several rows, the heads of all
    lie side by side.

    Raises:
        StateFileError: The file is none, or damaged.
        OSError: It cannot be read.

    Examples:
        >>> import tempfile
        >>> from retain import NeuralMemory, save_state
        >>> import torch
        >>> memory = NeuralMemory(8, heads=2)
        >>> _, state = memory(torch.randn(1, 5, 8))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_state(state, f"{folder}/a.memory", memory.rule)
        ...     kept = state_in(Path(folder) / "a.memory")
        >>> kept.seen, kept.hash == state.hash()
        ((5,), True)
    """
    try:
        state, rule = read_state(path)
    except NotAStateFile:
        return _conversation(path)
    return Kept(name=str(path), rule=rule, hash=state.hash(), seen=tuple(state.clock.tolist()), tensors=_tensors(state))


def _conversation(path: Path) -> Kept:
    try:
        header, found = unsealed(CONVERSATION, path)
    except NotAStateFile:
        raise NotAStateFile(
            f"{path} is no saved state: retain.save_state writes one of a layer, retain.retrofit.save_memory one of a conversation."
        ) from None
    states = [MemoryState.of(under(found, f"memory/{number}/")) for number in range(int(header["memories"]))]
    tensors = {f"memory {number}, {name}": t for number, state in enumerate(states, 1) for name, t in _tensors(state).items()}
    digest = hashlib.sha256("".join(state.hash() for state in states).encode()).hexdigest()[:16]
    return Kept(name=str(path), rule=f"memories {header['model']}", hash=digest, seen=tuple(states[0].clock.tolist()), tensors=tensors)


def _tensors(state: MemoryState) -> dict[str, Tensor]:
    """What retention keeps, and what the learner keeps beside it, as of the last folded step; each [rows * heads, ...]."""
    tensors = {name: state.accumulator[name].flatten(0, 1) for name in sorted(state.accumulator)}
    for number, moment in enumerate(state.moments, 1):
        order = f" {number}" if len(state.moments) > 1 else ""
        tensors |= {f"momentum{order} of {name}": moment[name].flatten(0, 1) for name in sorted(moment)}
    return tensors


def memory_in(folder: Path) -> Kept:
    """A text memory, or a snapshot of one, which stays as it is.

    Raises:
        FileNotFoundError: There is none.
        DamagedMemory: It has changed since it was written.

    Examples:
        >>> import tempfile
        >>> from retain.text import HashingEmbedder, MemoryConfig, TextMemory
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with TextMemory.open(folder, MemoryConfig(dim=16), embedder=HashingEmbedder()) as memory:
        ...         _ = memory.observe("the sea is salt")
        ...     kept = memory_in(Path(folder))
        >>> kept.records, list(kept.tensors)
        ({1: 'the sea is salt'}, ['layer 1', 'layer 2'])
    """
    made = MadeWith.read(folder)
    if made is None:
        raise FileNotFoundError(
            f"there is no text memory in {folder}. Cure: the folder of one, or of a snapshot of one, which lies in MEMORY/snapshots."
        )
    opened = Opened(folder, None, made.absent(), 10.0, "read")
    try:
        with opened.lock:
            learner = opened.reading()
            records = {record.id: record.observed.text for record in opened.records.after()}
            rule = f"{made.config.preset}, dim {made.config.dim}, embedder {made.identity}"
            initial = Learner(made.config, made.width)
            return Kept(
                name=str(folder),
                rule=rule,
                hash=learner.hash(),
                seen=(len(records),),
                tensors=_matrices(learner),
                initial=_matrices(initial),
                records=records,
            )
    finally:
        opened.records.close()


def _matrices(learner: Learner) -> dict[str, Tensor]:
    return {f"layer {number}": w.detach().cpu()[None] for number, w in enumerate(learner.weights.matrices(), 1)}


def _only(one: Kept, other: Kept) -> dict[int, str]:
    return {number: text for number, text in (one.records or {}).items() if number not in (other.records or {})}
