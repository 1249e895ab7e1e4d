"""Choosing an engine for a rule."""

from __future__ import annotations

from retain.core.engine import AbstractEngine
from retain.core.errors import EngineRefusal
from retain.core.rule import MemoryRule

from .delta import Delta
from .dual import Dual
from .materialised import Materialised
from .recurrent import Recurrent

ENGINES: tuple[AbstractEngine, ...] = (Delta(), Dual(), Materialised(), Recurrent())  # the fastest first, but for long steps
LONG_STEP = 32  # tokens a step from which weights written out cost less than attention over the cells


def select(rule: MemoryRule, engine: str | AbstractEngine = "auto") -> AbstractEngine:
    """The engine that runs ``rule``: the fastest willing one, or the one that is asked for.

    Args:
        rule: What is to be run.
        engine: ``"auto"``, the name of an engine, or an engine.

    Raises:
        EngineRefusal: The engine asked for cannot run the rule; the message is its reason.
        ValueError: There is no engine of that name.

    Examples:
        >>> from retain import presets
        >>> select(presets.titans()).name
        'dual'
    """
    if engine == "auto":
        willing = [e for e in ENGINES if e.why_not(rule) is None]
        return next((e for e in willing if rule.step_every >= LONG_STEP and isinstance(e, Materialised)), willing[0])
    if isinstance(engine, str):
        named = {e.name: e for e in ENGINES}
        if engine not in named:
            raise ValueError(f"there is no engine {engine!r}; choose 'auto' or one of {', '.join(map(repr, named))}.")
        engine = named[engine]
    reason = engine.why_not(rule)
    if reason is not None:
        others = ", ".join(repr(e.name) for e in ENGINES if e.why_not(rule) is None)
        raise EngineRefusal(f"{reason} Engines that run this rule: {others}.")
    return engine
