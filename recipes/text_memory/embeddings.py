"""Embeddings that are made once and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from retain.storage import write_whole
from retain.text import Embedder
from retain.text.embedders import embedded

from ..evidence import CONSOLE

PART, BATCH = 1024, 32


def kept(embedder: Embedder, texts: Iterable[str], folder: Path) -> dict[str, bytes]:
    """The embeddings of texts as a memory stores them.

    Texts of like length are embedded together, since a batch is as wide as its widest. Products are taken in bfloat16, which halves the time and moves a
    vector of MiniLM by less than the grid of stored embeddings does.
    """
    once = sorted(set(texts), key=lambda text: (len(text.split()), text))
    found: dict[str, bytes] = {}
    for at in range(0, len(once), PART):
        part = once[at : at + PART]
        name = hashlib.sha256("\0".join([embedder.identity, *part]).encode()).hexdigest()[:16]
        path = folder / f"{name}.safetensors"
        if path.exists():
            rows = load_file(path)["rows"]
        else:
            with torch.autocast("cpu", torch.bfloat16):
                rows = grid([row for i in range(0, len(part), BATCH) for row in embedded(embedder, part[i : i + BATCH])])
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, save({"rows": rows}))
            CONSOLE.print(f"embedded {at + len(part)} of {len(once)}")
        found |= {text: row.numpy().tobytes() for text, row in zip(part, rows, strict=True)}
    return found


def grid(rows: list[bytes]) -> Tensor:
    """Stored embeddings as whole numbers [texts, width]."""
    return torch.frombuffer(bytearray(b"".join(rows)), dtype=torch.int8).reshape(len(rows), -1)
