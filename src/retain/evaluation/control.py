"""Controls: what is taken from a model to see what its answers hang on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from retain.blocks import BlockState
from retain.blocks.state import LEVELS
from retain.core.state import MemoryState

PAST = "past/"  # in MAC's state: the memory that the segment under way reads


class AbstractControl(ABC):
    """Something that is taken from a model. What it answers then stands in the same table as what it answers with all it has.

    Examples:
        >>> control: AbstractControl = WritesOff()
        >>> control.name, control.writes
        ('writes off', False)
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What its rows are called."""

    @property
    def writes(self) -> bool:
        """Whether memories may write while they read."""
        return True


class AbstractCut(AbstractControl):
    """A control that cuts into what a model keeps, just before it is asked.

    To add one, write a final class with a ``name`` and a ``cut``, and hand it to an evaluation among its ``controls``. It needs no more: it is told
    the state of each block, and the state that the block started from.

    Examples:
        >>> class AllReset(AbstractCut):
        ...     @property
        ...     def name(self):
        ...         return "all reset"
        ...     def cut(self, state, start):
        ...         return WindowCut().cut(MemoryReset().cut(state, start), start)
        >>> AllReset().name, AllReset().writes
        ('all reset', True)
    """

    @abstractmethod
    def cut(self, state: BlockState, start: BlockState) -> BlockState:
        """The state from which a block goes on, from just before the question.

        Args:
            state: What the block has come to.
            start: What it started from: of its memories the weights, without tokens that wait to be folded in.
        """


@dataclass(frozen=True)
class WritesOff(AbstractControl):
    """No memory may write and no level learn, from the first token of the stream to the last. All else goes on as usual.

    Examples:
        >>> WritesOff().name, WritesOff().writes
        ('writes off', False)
    """

    @property
    def name(self) -> str:
        return "writes off"

    @property
    def writes(self) -> bool:
        return False


@dataclass(frozen=True)
class MemoryReset(AbstractCut):
    """Memories and levels are put back to the weights that they started from, momentum included. Attention, convolutions and clocks are left as they are.

    In MAC the memory that the segment under way reads is put back, too. Tokens that wait to be folded into a memory, or to be learnt from, are dropped,
    and the periods of levels begin anew. A period whose last token has not yet got its label, the next token, waits too.

    Examples:
        >>> MemoryReset().name
        'memory reset'
    """

    @property
    def name(self) -> str:
        return "memory reset"

    def cut(self, state: BlockState, start: BlockState) -> BlockState:
        memories = {name: _forgotten(memory, start.memories[name]) for name, memory in state.memories.items()}
        past = {name: tensor for name, tensor in start.tensors.items() if name.startswith((PAST, LEVELS))}
        return replace(state, memories=memories, tensors={**state.tensors, **past})


@dataclass(frozen=True)
class WindowCut(AbstractCut):
    """Whatever sees single tokens is put back to its start: attention's sight, the tails of convolutions, MAC's segment, tokens that levels have not yet
    learnt from. Memories and levels are kept.

    What a model still answers after it comes through its memories. In MAC the segment goes on where it was, and its places before the cut are blank.

    Examples:
        >>> WindowCut().name
        'window cut'
    """

    @property
    def name(self) -> str:
        return "window cut"

    def cut(self, state: BlockState, start: BlockState) -> BlockState:
        memories = {name: _unseen(memory, start.memories[name]) for name, memory in state.memories.items()}
        past = {name: tensor for name, tensor in state.tensors.items() if name.startswith((PAST, LEVELS))}
        return BlockState(memories=memories, sights=start.sights, tensors={**start.tensors, **past})


CONTROLS: tuple[AbstractControl, ...] = (WritesOff(), MemoryReset(), WindowCut())
"""The controls that every evaluation runs unless it is told otherwise."""


def check_names(controls: tuple[AbstractControl, ...], taken: tuple[str, ...]) -> tuple[str, ...]:
    """The controls' names.

    Raises:
        ValueError: Two have one name, or one has a name that is ``taken`` by another row of the table.

    Examples:
        >>> check_names(CONTROLS, taken=("model",))
        ('writes off', 'memory reset', 'window cut')
    """
    names = tuple(control.name for control in controls)
    again = sorted({name for name in names if names.count(name) > 1 or name in taken})
    if again:
        raise ValueError(f"each row of a table needs a name of its own; there is more than one {', '.join(map(repr, again))}.")
    return names


def _forgotten(memory: MemoryState, start: MemoryState) -> MemoryState:
    """A memory at its place in the stream with the weights of the start, and no write under way."""
    under_way = {name: start.buffers[name] for name in ("ahead",) if name in start.buffers}  # a key that waits for its value
    return replace(
        memory,
        anchor=start.anchor,
        accumulator=start.accumulator,
        moments=start.moments,
        pending=None,
        beside=start.beside,
        buffers={**memory.buffers, **under_way},
    )


def _unseen(memory: MemoryState, start: MemoryState) -> MemoryState:
    """A memory without what its layer has kept of single tokens beside it."""
    seen = {name: start.buffers[name] for name in ("tail",) if name in start.buffers}
    return replace(memory, recent=start.recent, buffers={**memory.buffers, **seen})
