"""A memory layer from plain data, as a configuration file holds it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from retain.layers import Gates, NeuralMemory, Output, Projections
from retain.memory import presets

_PARTS: dict[str, type] = {"gates": Gates, "projections": Projections, "output": Output}
_KNOWN = ("preset", "rule", "heads", "head_dim", "engine", *_PARTS)


def memory_from(given: Mapping[str, Any], dim: int) -> NeuralMemory:
    """The layer that a configuration describes.

    Args:
        given: ``preset``, the name of a preset; ``rule``, its arguments; ``heads``, ``head_dim`` and ``engine`` as in ``NeuralMemory``; ``gates``,
            ``projections`` and ``output``, the arguments of these. What is left out has its default.
        dim: Width of the stream.

    Raises:
        ValueError: A key is unknown; the message names it and what there is.

    Examples:
        >>> memory_from({"preset": "titans", "rule": {"update_every": 16}, "heads": 2, "gates": {"curve": "hard"}}, dim=8).rule.update_every
        16
    """
    _check("memory", given, _KNOWN)
    preset = presets_by_name().get(given.get("preset", "titans"))
    if preset is None:
        raise ValueError(f"there is no preset {given.get('preset')!r}; choose one of {', '.join(presets_by_name())}.")
    arguments = dict(given.get("rule", {}))
    _check(f"memory['rule'] of the preset {given.get('preset', 'titans')!r}", arguments, tuple(inspect.signature(preset).parameters))
    parts: dict[str, Any] = {}
    for name, kind in _PARTS.items():
        _check(f"memory[{name!r}]", given.get(name, {}), tuple(field.name for field in fields(kind)))
        parts[name] = kind(**given.get(name, {}))
    return NeuralMemory(
        dim, heads=given.get("heads", 1), head_dim=given.get("head_dim"), rule=preset(**arguments), engine=given.get("engine", "auto"), **parts
    )


def presets_by_name() -> dict[str, Callable[..., Any]]:
    """The presets that a configuration can name."""
    return {name: function for name, function in vars(presets).items() if inspect.isfunction(function) and function.__module__ == presets.__name__}


def _check(what: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"{what} has no {', '.join(map(repr, unknown))}; it has {', '.join(known)}.")
