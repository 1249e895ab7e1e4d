"""`retain memory surprise`: how new a text is."""

from __future__ import annotations

from typing import Annotated

import typer

from ._command import command
from ._opening import Place, Reading, asked
from ._reading import given
from ._telling import Json, say, say_json


@command
def surprise(
    text: Annotated[str | None, typer.Argument(help="The text; standard input for - or nothing.")] = None,
    associate: Annotated[str | None, typer.Option(help="What the text would recall; itself if left out.")] = None,
    lines: Json = False,
    *,
    place: Place,
    reading: Reading,
) -> None:
    """Tell how new a text is, from 0 to 1: one half is a typical text that the memory has not seen. Changes nothing."""
    with asked(place, reading) as memory:
        found = memory.surprise(given(text), associate)
    if lines:
        say_json({"surprise": found})
    else:
        say(f"{found:.3f}")
