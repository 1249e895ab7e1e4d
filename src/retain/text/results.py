"""What a text memory answers."""

from __future__ import annotations

from typing import Any, TypedDict

from torch import Tensor


class ObserveResult(TypedDict):
    """What one observation did: the record's number, how surprising the text was from 0 to 1, the length of the change of all weights, and the earlier
    texts whose keys it excites, the nearest first.

    Examples:
        >>> import tempfile
        >>> from retain.text import HashingEmbedder, MemoryConfig, TextMemory
        >>> folder = tempfile.TemporaryDirectory()
        >>> memory = TextMemory.open(folder.name + "/notes.memory", MemoryConfig(dim=64), embedder=HashingEmbedder())
        >>> sorted(memory.observe("Anna is allergic to nuts"))
        ['id', 'patterns_activated', 'surprise', 'weight_delta']
        >>> memory.close(), folder.cleanup()
        (None, None)
    """

    id: int
    surprise: float
    weight_delta: float
    patterns_activated: list[str]


class InferResult(TypedDict):
    """What the memory answers, how sure it is that the best pattern is the right one from 0 to 1, and the texts that the answer is nearest to, the nearest
    first, with their share of attention and their records' numbers.

    Examples:
        >>> import tempfile
        >>> from retain.text import HashingEmbedder, MemoryConfig, TextMemory
        >>> folder = tempfile.TemporaryDirectory()
        >>> memory = TextMemory.open(folder.name + "/notes.memory", MemoryConfig(dim=64), embedder=HashingEmbedder())
        >>> _ = memory.observe("Anna is allergic to nuts")
        >>> memory.infer("nuts")["patterns"]
        ['Anna is allergic to nuts']
        >>> memory.close(), folder.cleanup()
        (None, None)
    """

    response: Tensor
    confidence: float
    attention_weights: list[float]
    patterns: list[str]
    ids: list[int]


class HistoryEntry(TypedDict):
    """One record as it was observed.

    Examples:
        >>> import tempfile
        >>> from retain.text import HashingEmbedder, MemoryConfig, TextMemory
        >>> folder = tempfile.TemporaryDirectory()
        >>> memory = TextMemory.open(folder.name + "/notes.memory", MemoryConfig(dim=64), embedder=HashingEmbedder())
        >>> _ = memory.observe("Anna is allergic to nuts", metadata={"from": "mail"})
        >>> entry = memory.history()[0]
        >>> entry["text"], entry["metadata"]
        ('Anna is allergic to nuts', {'from': 'mail'})
        >>> memory.close(), folder.cleanup()
        (None, None)
    """

    id: int
    text: str
    associate: str | None
    time: float
    metadata: dict[str, Any]
    surprise: float
