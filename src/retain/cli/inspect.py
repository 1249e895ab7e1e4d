"""`retain inspect`: what a memory does with a text, or what changed in it, as a page for a browser or in a few tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from transformers.utils import logging

from retain.inspection import (
    ask,
    compare,
    comparison_page,
    in_pieces,
    memory_in,
    memory_page,
    read,
    state_in,
    text_page,
    told,
    told_of_change,
    told_of_lines,
)
from retain.models import RetainForCausalLM
from retain.storage import write_whole
from retain.text import MadeWith, TextMemory
from retain.text.snapshots import place

from .eval import bar
from .memory._reading import of_files

MEMORIES = "memory_config.json"
NOW = "now"


def inspect(
    file: Annotated[Path | None, typer.Argument(help="The text, in UTF-8.")] = None,
    model: Annotated[Path | None, typer.Option(help="Folder of a model that reads it, such as RUN/model.")] = None,
    memory: Annotated[Path | None, typer.Option(help="Folder of a text memory that its lines are held against; nothing is learnt.")] = None,
    states: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--compare", help="Two saved states, text memories or snapshots of one; with --memory, names of its snapshots, or `now`."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the page here: one file of HTML, which needs no network.")] = None,
    text: Annotated[bool, typer.Option("--text", help="Print tables; that is done, too, where there is no --out.")] = False,
    reads: Annotated[int, typer.Option(help="How many reads of the text, evenly spread, are traced to the tokens they draw on.")] = 32,
    at: Annotated[list[int] | None, typer.Option(help="A token, from 1 on, whose read is traced as well; may be repeated.")] = None,
    span: Annotated[int, typer.Option(help="How many tokens a read is traced back, at least.")] = 4096,
    initial: Annotated[Path | None, typer.Option(help="For --compare: a state from before the first token, for distances from it.")] = None,
) -> None:
    """Look into a memory: what surprises it, what it writes and forgets, what its reads draw on.

    retain inspect FILE --model M --out report.html: a model reads the text.
    retain inspect FILE --memory S --out report.html: a text memory is asked about its lines.
    retain inspect --compare A B: what changed from one state to another.
    """
    logging.disable_progress_bar()
    try:
        if states is not None:
            if file is not None or model is not None:
                raise ValueError("--compare looks at two states, and goes with neither a FILE nor --model. Cure: leave these out.")
            page, words = _changed(*states, memory, initial)
        elif file is None:
            raise ValueError("which text? Cure: retain inspect FILE --model M, or retain inspect FILE --memory S; for two states, --compare A B.")
        elif (model is None) == (memory is None):
            raise ValueError("either a model reads the text, or a text memory is asked about it. Cure: --model M, or --memory S, and not both.")
        elif model is not None:
            page, words = _read(file, model, reads, at or [], span)
        else:
            assert memory is not None
            page, words = _asked(file, memory)
        if out is not None:
            write_whole(out, page().encode(), mode=0o644)
    except FileNotFoundError as error:
        raise _wrong(f"{error.filename}: {error.strerror}." if error.filename and error.strerror else str(error)) from None
    except (ValueError, OSError, ImportError) as error:
        raise _wrong(str(error)) from None
    if text or out is None:
        typer.echo(words)
    if out is not None:
        typer.echo(f"The page is {out}.")


Told = tuple[Callable[[], str], str]
"""The page, to be made if it is wanted, and what is said in a terminal."""


def _read(file: Path, folder: Path, reads: int, at: Sequence[int], span: int) -> Told:
    if (folder / MEMORIES).exists():
        raise ValueError(f"{folder} holds memories of a pretrained model. Cure: retain retrofit inspect {folder} --base BASE --text {file}")
    if not (folder / "config.json").exists():
        raise ValueError(f"{folder} is not the folder of a model: it has no config.json. A run keeps its model in RUN/model.")
    if reads < 0:
        raise ValueError(f"--reads counts reads and must be at least 0, got {reads}.")
    words = _text_of(file)
    model = RetainForCausalLM.from_pretrained(folder)
    tokens, pieces = in_pieces(model, folder, words)
    outside = [number for number in at if not 1 <= number <= len(tokens)]
    if outside:
        raise ValueError(f"--at names tokens from 1 to {len(tokens)}, got {outside[0]}.")
    spread = {(i + 1) * len(tokens) // reads - 1 for i in range(min(reads, len(tokens)))}
    with bar(Console(stderr=True), "Reading") as progress:
        traced = sorted({*spread, *(number - 1 for number in at)})
        reading = read(model, torch.tensor(tokens), traced=traced, span=span, progress=lambda share: progress(share, ""))
    return lambda: text_page(reading, pieces, file.name, [f"read by {folder}", f"{len(tokens):,} tokens"]), told(reading, pieces)


def _asked(file: Path, folder: Path) -> Told:
    made = MadeWith.read(folder)
    if made is None:
        raise ValueError(f"there is no text memory in {folder}. Cure: another folder; retain memory observe makes one.")
    lines = [found.text for found in of_files([file], "line")]
    with TextMemory.open(folder, embedder=made.embedder(), read_only=True) as memory:
        with bar(Console(stderr=True), "Asking") as progress:
            reading = ask(memory, lines, progress=lambda share: progress(share, ""))
        records = memory.stats()["records"]
    facts = [f"held against {folder}, weights {reading.hash}", f"{records:,} records", f"{len(lines):,} lines"]
    return lambda: memory_page(reading, file.name, facts), told_of_lines(reading)


def _changed(before: Path, after: Path, memory: Path | None, initial: Path | None) -> Told:
    if memory is not None:
        if MadeWith.read(memory) is None:
            raise ValueError(f"there is no text memory in {memory}. Cure: another folder; retain memory observe makes one.")
        before, after = (memory if str(name) == NOW else place(memory, str(name)) for name in (before, after))
    first, second = (memory_in(path) if path.is_dir() or memory is not None else state_in(path) for path in (before, after))
    found = compare(first, second, None if initial is None else state_in(initial))
    return lambda: comparison_page(found), told_of_change(found)


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8: byte {error.start + 1} is {error.object[error.start]:#04x}. Cure: iconv -t UTF-8.") from None


def _wrong(what: str) -> typer.Exit:
    typer.echo(f"retain inspect: {what}", err=True)
    return typer.Exit(2)
