"""What is said, and how: lines of words for people, lines of JSON for programs, and a bar where somebody watches."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

_T = TypeVar("_T")
Json = Annotated[bool, typer.Option("--json", help="Answer with JSON, a line for each thing.")]


def in_one_line(text: str) -> str:
    """A text as it can be shown on a terminal: whatever would move the cursor, or worse, is written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def say(*parts: str | tuple[str, str]) -> None:
    """A line for people; a pair is words and their style, which only a terminal shows."""
    line = Text(no_wrap=True)
    for part in parts:
        words, style = (part, "") if isinstance(part, str) else part
        line.append(in_one_line(words), style)
    _to_any_encoding()
    Console(soft_wrap=True, highlight=False).print(line)


def say_json(what: dict[str, Any]) -> None:
    """A line for programs."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    sys.stdout.write(json.dumps(what, ensure_ascii=plain) + "\n")
    sys.stdout.flush()


@contextmanager
def counted(things: Iterable[_T], what: str, *, quiet: bool) -> Generator[Iterable[_T], None, None]:
    """The same things, with a bar that tells how many are done, if they are many or nobody knows, and somebody watches."""
    console = Console(stderr=True)
    total = len(things) if isinstance(things, list) else None
    if quiet or total == 1 or not console.is_terminal:
        yield things
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield progress.track(things, total=total, description=what)


def _to_any_encoding() -> None:
    """What a terminal of few letters cannot show is written out, too."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
