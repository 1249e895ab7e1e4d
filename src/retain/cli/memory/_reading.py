"""Texts from the command line, from files and from standard input."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Each = Literal["line", "paragraph", "file"]
STANDARD_INPUT = "standard input"


@dataclass(frozen=True)
class Found:
    """A text, and where it stood."""

    where: str
    text: str


def given(word: str | None) -> str:
    """The text of a word of the command line, or all of standard input for ``-`` or nothing."""
    if word not in {None, "-"}:
        return str(word)
    _nobody_types()
    return _decoded(sys.stdin.buffer.read(), STANDARD_INPUT).strip("\n")


def streamed() -> Iterator[Found]:
    """The lines of standard input, each as soon as it is there."""
    _nobody_types()
    return _lines(sys.stdin.buffer, STANDARD_INPUT)


def of_files(paths: Iterable[Path], each: Each) -> Iterator[Found]:
    """The texts of files; ``-`` is standard input."""
    for path in paths:
        if str(path) == "-":
            _nobody_types()
            name, data = STANDARD_INPUT, sys.stdin.buffer.read()
        else:
            name, data = str(path), path.read_bytes()
        if each == "line":
            yield from _lines(data.split(b"\n"), name)
        elif each == "file":
            yield Found(name, _decoded(data, name).strip("\n"))
        else:
            parts = re.split(r"\n[ \t]*(?:\n[ \t]*)+", _decoded(data, name).replace("\r\n", "\n"))
            yield from (Found(f"paragraph {number} of {name}", part.strip("\n")) for number, part in enumerate(parts, 1) if part.strip())


def _lines(lines: Iterable[bytes], name: str) -> Iterator[Found]:
    for number, line in enumerate(lines, 1):
        text = _decoded(line, f"line {number} of {name}").rstrip("\r\n")
        if text.strip():
            yield Found(f"line {number} of {name}", text)


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8: byte {error.start + 1} is {data[error.start]:#04x}. Cure: iconv -t UTF-8.") from None


def _nobody_types() -> None:
    if sys.stdin.isatty():
        raise ValueError("there is no text. Cure: words on the command line, or a pipe or a file on standard input.")
