"""The ways in which one memory is divided into levels."""

from __future__ import annotations

from .learner import Variant

VARIANTS = {
    "one block": Variant(steps=(0,)),
    "1 frequency": Variant(steps=(0, 0, 0)),
    "1 frequency, rates of 3": Variant(steps=(0, 0, 0)),
    "1 frequency, slow": Variant(steps=(2, 2, 2)),
    "2 frequencies": Variant(steps=(0, 0, 2)),
    "3 frequencies": Variant(steps=(0, 1, 2)),
    "3, slowest first": Variant(steps=(2, 1, 0)),
    "3, nested": Variant(steps=(0, 1, 2), form="nested"),
    "1, independent": Variant(steps=(0, 0, 0), form="independent"),
    "3, independent": Variant(steps=(0, 1, 2), form="independent"),
}
"""The same memory throughout: as many weights, and as many gradients of each sample."""

RATES_OF = {"1 frequency, rates of 3": "3 frequencies"}
"""Those that are not tuned but have the rates of another, from which only their periods differ."""
META_LEARNT = ("one block", "1 frequency", "1 frequency, rates of 3", "2 frequencies", "3 frequencies")
"""Those whose starts are also learnt through streams."""
