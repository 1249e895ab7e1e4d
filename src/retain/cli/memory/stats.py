"""`retain memory stats`: where a memory stands."""

from __future__ import annotations

from typing import Any

from ._command import command
from ._opening import Place, at_rest
from ._telling import Json, say, say_json


@command
def stats(lines: Json = False, *, place: Place) -> None:
    """Tell how much the memory holds, how large it is, what names its weights, and which snapshots there are."""
    with at_rest(place) as memory:
        found: dict[str, Any] = {**memory.stats(), "weight_hash": memory.get_weight_hash()}
    if lines:
        say_json(found)
        return
    for name, value in found.items():
        shown = ", ".join(value) if isinstance(value, list) else f"{value:.4f}" if isinstance(value, float) else str(value)
        say(f"{name.replace('_', ' ')}: {shown or 'none'}")
