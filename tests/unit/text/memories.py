"""Small memories of texts."""

from pathlib import Path

from retain.text import HashingEmbedder, MemoryConfig, Scope, TextMemory
from retain.text.config import NOBODYS

EMBEDDER = HashingEmbedder(width=64)
CONFIG = MemoryConfig(dim=16)
FACTS = [
    f"the {colour} {thing} costs {number} crowns"
    for number, (colour, thing) in enumerate(zip(["red", "green", "old"] * 4, "abcdefghijkl", strict=True))
]


def opened(folder: Path, config: MemoryConfig | None = CONFIG, *, scope: Scope = NOBODYS, timeout: float = 10.0) -> TextMemory:
    return TextMemory.open(folder, config, embedder=EMBEDDER, scope=scope, timeout=timeout)


def taught(folder: Path, texts: list[str]) -> TextMemory:
    memory = opened(folder)
    for text in texts:
        memory.observe(text)
    return memory
