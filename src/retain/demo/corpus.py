"""Real text that is always there: the source of the running interpreter's standard library, split by package."""

from __future__ import annotations

import random
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

HELD_OUT = frozenset({"test", "idlelib", "asyncio", "email", "http", "lib2to3", "tkinter"})
"""Packages that nothing is ever trained on. Which of them exist depends on the interpreter; an absent one is left out."""

FEWEST_TRAINED = 1_000_000
FEWEST_HELD_OUT = 500_000


@dataclass(frozen=True)
class Book:
    """Some files of the library, one behind the other.

    Args:
        names: The top-level packages and modules that the files belong to, in alphabetical order.
        text: Their bytes, as a tensor of small integers.
    """

    names: tuple[str, ...]
    text: Tensor

    def window(self, start: int, length: int) -> Tensor:
        """``length`` bytes from ``start`` on; behind the last byte the first one follows."""
        place = start % len(self.text)
        pieces, have = [self.text[place : place + length]], min(length, len(self.text) - place)
        while have < length:
            pieces.append(self.text[: length - have])
            have += len(pieces[-1])
        return torch.cat(pieces)

    def count(self, word: bytes) -> int:
        """How often ``word`` occurs in the text."""
        return bytes(self.text.numpy()).count(word)


def library() -> Path:
    """The folder of the running interpreter's standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def packages(root: Path) -> dict[str, list[Path]]:
    """The Python files under ``root`` by top-level package or module, what was installed beside the library left out."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] not in {"site-packages", "dist-packages", "__pycache__"} and path.is_file():
            found.setdefault(parts[0], []).append(path)
    return found


def bind(root: Path, names: list[str], order: random.Random | None = None) -> Book:
    """The files of the packages ``names`` joined, in the order of their paths unless an order is drawn."""
    files = [path for name, paths in packages(root).items() if name in names for path in paths]
    if order is not None:
        order.shuffle(files)
    joined = bytearray(b"\n".join(path.read_bytes() for path in files))
    return Book(tuple(sorted(set(names))), torch.frombuffer(joined, dtype=torch.uint8) if joined else torch.zeros(0, dtype=torch.uint8))


def split(root: Path, seed: int = 0) -> tuple[Book, Book]:
    """The text to train on and the text held out: no package lies in both. Files are shuffled by ``seed``.

    Raises:
        ValueError: The interpreter came with too little source to train and to test on.
    """
    names = list(packages(root))
    trained = bind(root, [n for n in names if n not in HELD_OUT], random.Random(f"{seed} trained"))
    held_out = bind(root, [n for n in names if n in HELD_OUT], random.Random(f"{seed} held out"))
    if len(trained.text) < FEWEST_TRAINED or len(held_out.text) < FEWEST_HELD_OUT:
        raise ValueError(
            f"the standard library under {root} has {len(trained.text):,} bytes of source to train on and {len(held_out.text):,} held out; "
            f"the demonstration needs {FEWEST_TRAINED:,} and {FEWEST_HELD_OUT:,}. Cure: run it with an interpreter that ships its library as "
            ".py files (python.org, pyenv, conda; on Debian install libpython3-testsuite and idle)."
        )
    return trained, held_out


def longest_package(root: Path) -> Book:
    """The held-out package to read in one pass: ``idlelib`` where it is there, else the largest other one; files in the order of their paths.

    The tests of the interpreter are used only if nothing else is held out: they are less like a program.
    """
    sizes = {name: sum(path.stat().st_size for path in files) for name, files in packages(root).items() if name in HELD_OUT}
    best = max(sizes, key=lambda name: (name == "idlelib", name != "test", sizes[name]))
    return bind(root, [best])
