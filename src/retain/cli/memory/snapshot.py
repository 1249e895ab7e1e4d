"""`retain memory snapshot`: a copy to go back to."""

from __future__ import annotations

from typing import Annotated

import typer

from ._command import command
from ._opening import Place, at_rest
from ._telling import Json, say, say_json


@command
def snapshot(
    name: Annotated[str | None, typer.Argument(help="Of the snapshot; lists those that there are if left out.")] = None,
    lines: Json = False,
    *,
    place: Place,
) -> None:
    """Keep the memory as it is under a name; without a name, list what is kept, the oldest first."""
    with at_rest(place, read_only=False) as memory:
        if name is not None:
            memory.snapshot(name)
        names = memory.snapshots()
    if lines:
        say_json({"snapshots": names} if name is None else {"name": name, "snapshots": names})
    elif name is not None:
        say(f"Snapshot {name} is kept. To go back to it: retain memory restore {name}")
    else:
        for one in names:
            say(one)
