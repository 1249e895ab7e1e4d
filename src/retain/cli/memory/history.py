"""`retain memory history`: what was observed."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ._command import command
from ._opening import Place, at_rest
from ._telling import Json, say, say_json


@command
def history(
    after: Annotated[int, typer.Option(help="Only records behind this number.")] = 0,
    last: Annotated[int | None, typer.Option(help="Only so many, the newest.")] = None,
    lines: Json = False,
    *,
    place: Place,
) -> None:
    """List what was observed, in order: record, time, surprise, text, and what the text is to recall."""
    if last is not None and last < 1:
        raise ValueError(f"--last counts records and must be at least 1, got {last}.")
    with at_rest(place) as memory:
        found = memory.history(after)
    for entry in found if last is None else found[-last:]:
        if lines:
            say_json(dict(entry))
            continue
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry["time"]))
        recalls = "" if entry["associate"] is None else f" -> {entry['associate']}"
        say(f"{entry['id']:6}  {when}  {entry['surprise']:.3f}  {entry['text']}{recalls}")
