"""`retain memory restore`: back to a snapshot."""

from __future__ import annotations

from typing import Annotated

import typer

from retain.text import TextMemory

from ._command import command
from ._opening import Place, at_rest
from ._telling import Json, say, say_json


@command
def restore(
    name: Annotated[str, typer.Argument(help="The snapshot; retain memory snapshot lists them.")],
    recover: Annotated[
        bool,
        typer.Option(
            "--recover", help="The memory is damaged, and nobody has it open: put the snapshot in its place; what is damaged stays beside it."
        ),
    ] = False,
    lines: Json = False,
    *,
    place: Place,
) -> None:
    """Go back to a snapshot: whatever was observed since is gone. The snapshot stays."""
    if recover:
        TextMemory.recover(place.folder, name, scope=place.scope)
    with at_rest(place, read_only=False) as memory:
        if not recover:
            memory.rollback(name)
        found = {"name": name, "records": memory.stats()["records"], "weight_hash": memory.get_weight_hash()}
    if lines:
        say_json(found)
    else:
        say(f"The memory is that of snapshot {name}: {found['records']} records, weights {found['weight_hash']}.")
