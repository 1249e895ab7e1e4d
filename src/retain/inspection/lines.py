"""What a text memory has to say of lines of text: how new it finds each, and which of its records its answer is nearest to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from retain.text import TextMemory


@dataclass(frozen=True, kw_only=True)
class LineReading:
    """What was asked of a text memory.

    Args:
        lines: Each text that was asked about.
        surprise: How new the memory finds each, from 0 to 1 [lines].
        confidence: How often so sharp an answer was right [lines].
        recalled: For each, the records that its answer is nearest to, and the attention over them; by number.
        records: The texts of those records; what a record recalls, where it recalls another text.
        rule: What the memory is, in words.
        hash: What names its weights.

    Examples:
        >>> LineReading(
        ...     lines=("salt",), surprise=torch.ones(1), confidence=torch.zeros(1), recalled=[[]], records={}, rule="titans, dim 16", hash="0"
        ... ).surprise.tolist()
        [1.0]
    """

    lines: tuple[str, ...]
    surprise: Tensor
    confidence: Tensor
    recalled: list[list[tuple[int, float]]]
    records: dict[int, str]
    rule: str
    hash: str


def ask(memory: TextMemory, lines: Sequence[str], *, progress: Callable[[float], None] | None = None) -> LineReading:
    """Hold lines against a text memory, which stays as it is.

    Args:
        memory: The memory.
        lines: What is asked about, each by itself: none is learnt.
        progress: Is told what share is done.

    Raises:
        ValueError: There are no lines, or one of them is no text.

    Examples:
        >>> import tempfile
        >>> from retain.text import HashingEmbedder, MemoryConfig
        >>> with tempfile.TemporaryDirectory() as folder, TextMemory.open(folder, MemoryConfig(dim=32), embedder=HashingEmbedder()) as memory:
        ...     _ = memory.observe("the sea is salt")
        ...     found = ask(memory, ["the sea is salt", "bread is baked"])
        >>> bool(found.surprise[0] < found.surprise[1]), found.recalled[0], found.records
        (True, [(1, 1.0)], {1: 'the sea is salt'})
    """
    if not lines:
        raise ValueError("there are no lines to ask about. Cure: a text with at least one line that is not empty.")
    surprise, confidence, recalled, records = [], [], [], dict[int, str]()
    for number, line in enumerate(lines, 1):
        surprise.append(memory.surprise(line))
        answer = memory.infer(line)
        confidence.append(answer["confidence"])
        recalled.append(list(zip(answer["ids"], answer["attention_weights"], strict=True)))
        records |= zip(answer["ids"], answer["patterns"], strict=True)
        if progress is not None:
            progress(number / len(lines))
    rule = memory.config.rule
    parts = (rule.structure, rule.bias, rule.retention, rule.learner)
    return LineReading(
        lines=tuple(lines),
        surprise=torch.tensor(surprise),
        confidence=torch.tensor(confidence),
        recalled=recalled,
        records=records,
        rule=f"{memory.config.preset}, dim {memory.config.dim}: {' · '.join(type(part).__name__ for part in parts)}",
        hash=memory.get_weight_hash(),
    )
