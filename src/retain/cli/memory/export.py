"""`retain memory export`: records as lines of JSON."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ._command import command
from ._opening import Place, at_rest
from ._telling import Json, say, say_json


@command
def export(
    file: Annotated[Path, typer.Argument(help="The file, or - for standard output.")],
    lines: Json = False,
    *,
    place: Place,
) -> None:
    """Write all records as lines of JSON, with all that is needed to learn them again; the file appears whole or not at all."""
    with at_rest(place) as memory:
        if str(file) == "-":
            with tempfile.TemporaryDirectory() as folder:
                memory.export_jsonl(Path(folder) / "lines")
                sys.stdout.buffer.write((Path(folder) / "lines").read_bytes())
                sys.stdout.buffer.flush()
            return
        count = memory.export_jsonl(file)
    if lines:
        say_json({"records": count, "file": str(file)})
    else:
        say(f"{count} records are in {file}.")
