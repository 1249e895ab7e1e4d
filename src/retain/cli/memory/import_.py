"""`retain memory import`: learn lines of JSON."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ._command import command
from ._opening import Making, Place, Reading, learning
from ._reading import STANDARD_INPUT
from ._telling import Json, say, say_json


@command
def import_(
    file: Annotated[Path, typer.Argument(help='Lines such as {"text": "...", "associate": "..."}, or what export wrote; - for standard input.')],
    lines: Json = False,
    *,
    place: Place,
    reading: Reading,
    making: Making,
) -> None:
    """Learn the texts of lines of JSON, in order, all of them or none; the memory is made if there is none."""
    with tempfile.TemporaryDirectory() as folder:
        source = file
        if str(file) == "-":
            source = Path(folder) / "lines"
            source.write_bytes(sys.stdin.buffer.read())
        elif not file.is_file():
            raise FileNotFoundError(f"there is no file {file}.")
        with learning(place, reading, making) as memory:
            try:
                count = memory.import_jsonl(source)
            except ValueError as error:
                raise ValueError(str(error).replace(str(source), STANDARD_INPUT)) if source is not file else error from None
    if lines:
        say_json({"records": count})
    else:
        say(f"{count} records were learnt.")
