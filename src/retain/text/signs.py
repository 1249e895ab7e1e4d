"""Random numbers that are the same everywhere."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def signs(name: str, seed: int, rows: int, columns: int) -> Tensor:
    """Random numbers, each -1 or 1, that are the same everywhere."""
    count = rows * columns
    data = hashlib.shake_256(f"retain.text {name} {seed} {rows} {columns}".encode()).digest((count + 7) // 8)
    octets = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    bits = (octets[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    return (bits.reshape(-1)[:count].float() * 2 - 1).reshape(rows, columns)
