"""`retain memory hash`: what names a memory's weights."""

from __future__ import annotations

from ._command import command
from ._opening import Place, at_rest
from ._telling import Json, say, say_json


@command
def hash(lines: Json = False, *, place: Place) -> None:
    """Print 16 hexadecimal digits that name the weights: the same after the same history, on every machine."""
    with at_rest(place) as memory:
        found = memory.get_weight_hash()
    if lines:
        say_json({"weight_hash": found})
    else:
        say(found)
