"""`retain memory observe`: learn texts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from retain.text import DamagedMemory, MemoryBusy, StorageFailed
from retain.text.acceptable import checked_metadata, checked_text
from retain.text.results import ObserveResult

from ._command import command
from ._opening import Making, Place, Reading, learning
from ._reading import Each, Found, of_files, streamed
from ._telling import Json, counted, say, say_json

MOST_TOLD = 3
"""Texts of many that are named: those that surprised most."""


@command
def observe(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; standard input, a text in each line, for - or nothing.")] = None,
    files: Annotated[bool, typer.Option("--files", "-f", help="What is given are names of files, and the texts are in them.")] = False,
    each: Annotated[Each, typer.Option(help="What of a file is a text.")] = "line",
    associate: Annotated[str | None, typer.Option(help="What the text is to recall; itself if left out.")] = None,
    metadata: Annotated[str | None, typer.Option(help="An object of JSON to keep with each record.")] = None,
    lines: Json = False,
    *,
    place: Place,
    reading: Reading,
    making: Making,
) -> None:
    """Learn texts, and keep them; the memory is made if there is none. Tells how surprising each was.

    Files are read and checked before the first of their texts is learnt; lines of standard input are learnt as they come.
    """
    extra = _object(metadata)
    found = _found(texts or ["-"], files, each)
    if associate is not None and not (isinstance(found, list) and len(found) == 1):
        raise ValueError("--associate goes with one text on the command line. Cure: pairs as lines of JSON, for retain memory import.")
    done: list[tuple[ObserveResult, str]] = []
    with learning(place, reading, making) as memory, counted(found, "Observing", quiet=lines) as watched:
        try:
            for one in watched:
                result = memory.observe(_checked(one), associate, metadata=extra)
                done.append((result, one.text))
                if lines:
                    say_json({**result, "text": one.text})
        except KeyboardInterrupt:
            typer.echo(f"Stopped. {len(done)} texts were observed, and perhaps the one after them.", err=True)
            raise typer.Exit(130) from None
        except (ValueError, MemoryBusy, StorageFailed) as error:
            if isinstance(error, DamagedMemory) or not done:
                raise
            raise type(error)(f"{error} {len(done)} texts before it were observed.") from None
    if not lines:
        _tell(done)


def _found(words: list[str], files: bool, each: Each) -> Iterable[Found]:
    """The texts, checked, of which there is at least one; but of lines of standard input only the first is read."""
    rest = None
    if files or (words == ["-"] and each != "line"):
        found = list(of_files(map(Path, words), each))
    elif words == ["-"]:
        rest = streamed()
        found = list(itertools.islice(rest, 1))
    else:
        found = [Found(f"text {number}" if len(words) > 1 else "the text", word) for number, word in enumerate(words, 1)]
    for one in found:
        _checked(one)
    if not found:
        raise ValueError("there is no text to observe.")
    return found if rest is None else itertools.chain(found, rest)


def _tell(done: list[tuple[ObserveResult, str]]) -> None:
    if len(done) == 1:
        result = done[0][0]
        say(f"Record {result['id']}. Surprise ", (f"{result['surprise']:.3f}", "bold"), f", change of weights {result['weight_delta']:.4f}.")
        for text in result["patterns_activated"]:
            say(f"  near  {text}")
        return
    surprises = [result["surprise"] for result, _ in done]
    mean = sum(surprises) / len(surprises)
    say(f"{len(done)} texts, the last of them record {done[-1][0]['id']}. Surprise ", (f"{mean:.3f}", "bold"), " on average. Most surprising:")
    for result, text in sorted(done, key=lambda one: -one[0]["surprise"])[:MOST_TOLD]:
        say(f"  {result['surprise']:.3f}  record {result['id']}  {text}")


def _checked(one: Found) -> str:
    try:
        return checked_text(one.text)
    except ValueError as error:
        raise ValueError(f"{one.where}: {error}") from None


def _object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f'--metadata is not JSON: {error}. Cure: an object, such as \'{{"from": "mail"}}\'.') from None
    checked_metadata(found)
    return found
