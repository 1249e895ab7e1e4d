"""`retain memory forget`: as if it had never been read."""

from __future__ import annotations

from typing import Annotated

import typer

from ._command import command
from ._opening import Place, at_rest
from ._telling import Json, say, say_json


@command
def forget(
    records: Annotated[list[int], typer.Argument(help="Numbers of records, as observe, infer and history tell them.")],
    lines: Json = False,
    *,
    place: Place,
) -> None:
    """Forget records for good: their texts, and all that they did to the weights. Snapshots that hold them are removed.

    The memory learns all its other records again, in order, which takes as long as observing them did, without embedding.
    """
    with at_rest(place, read_only=False) as memory:
        there = {entry["id"] for entry in memory.history()}
        missing = [str(number) for number in records if number not in there]
        if missing:
            raise KeyError(f"there is no record {', '.join(missing)} to forget. Nothing was changed. Cure: retain memory history lists them.")
        for number in dict.fromkeys(records):
            removed = memory.forget(number)
            if lines:
                say_json({"id": number, "snapshots_removed": removed, "weight_hash": memory.get_weight_hash()})
            else:
                also = f", and with it the snapshots that held it: {', '.join(removed)}" if removed else ""
                say(f"Record {number} is forgotten{also}.")
