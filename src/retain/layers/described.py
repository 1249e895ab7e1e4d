"""A memory layer from plain data, as a configuration file holds it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from types import ModuleType
from typing import Any

from retain.core import contracts
from retain.memory import bias, learner, presets, retention, structure

from . import features
from .gates import Gates, LowRankGates
from .neural_memory import NeuralMemory
from .output import Output
from .projections import Projections
from .self_modifying import Rates, SelfModifyingMemory, SelfModifyingRule

_PARTS: dict[str, type] = {"gates": LowRankGates, "projections": Projections, "output": Output}
_CHOICES: dict[str, tuple[ModuleType, type]] = {
    "structure": (structure, contracts.AbstractStructure),
    "bias": (bias, contracts.AbstractBias),
    "retention": (retention, contracts.AbstractRetention),
    "learner": (learner, contracts.AbstractLearner),
    "features": (features, features.Polynomial),
}
_OF_A_RULE = ("structure", "bias", "retention", "learner")
_KNOWN = ("preset", "rule", "change", "heads", "head_dim", "engine", *_PARTS)


def memory_from(given: Mapping[str, Any], dim: int, kind: type[NeuralMemory] = NeuralMemory) -> NeuralMemory:
    """The layer that a configuration describes.

    Args:
        given: ``preset``, the name of a preset; ``rule``, its arguments; ``change``, which of its four choices are others, each a part's name, or a
            mapping with the part's ``name`` and its arguments; ``heads``, ``head_dim`` and ``engine`` as in ``NeuralMemory``; ``gates``,
            ``projections`` and ``output``, the arguments of these, where the ``features`` of projections are given like one of the four choices. What is
            left out has its default. Gates with a ``rank`` are ``LowRankGates``.
        dim: Width of the stream.
        kind: ``NeuralMemory``, or ``PatientMemory``, which is the same memory for streams that come in single tokens.

    Raises:
        ValueError: A key is unknown; the message names it and what there is.

    Examples:
        >>> memory_from({"preset": "titans", "rule": {"update_every": 16}, "heads": 2, "gates": {"curve": "hard"}}, dim=8).rule.update_every
        16
        >>> memory_from({"change": {"learner": "Gradient", "structure": {"name": "NormResidual", "inner": {"name": "MLP", "depth": 3}}}}, dim=8).rule.learner
        Gradient()
    """
    _check("memory", given, _KNOWN)
    preset = presets_by_name().get(given.get("preset", "titans"))
    if preset is None:
        raise ValueError(f"there is no preset {given.get('preset')!r}; choose one of {', '.join(presets_by_name())}.")
    arguments = dict(given.get("rule", {}))
    _check(f"memory['rule'] of the preset {given.get('preset', 'titans')!r}", arguments, tuple(inspect.signature(preset).parameters))
    changes = given.get("change", {})
    _check("memory['change']", changes, _OF_A_RULE)
    rule = replace(preset(**arguments), **{name: _part(name, part) for name, part in changes.items()})
    parts: dict[str, Any] = {}
    for name, part in _PARTS.items():
        _check(f"memory[{name!r}]", given.get(name, {}), tuple(field.name for field in fields(part)))
        inner = {key: _part(key, value) if key in _CHOICES and value is not None else value for key, value in given.get(name, {}).items()}
        chosen: type = Gates if name == "gates" and "rank" not in inner else part
        parts[name] = chosen(**inner)
    return kind(dim, heads=given.get("heads", 1), head_dim=given.get("head_dim"), rule=rule, engine=given.get("engine", "auto"), **parts)


def self_modifying_from(given: Mapping[str, Any], dim: int) -> SelfModifyingMemory:
    """The self-modifying layer that a configuration describes.

    Args:
        given: ``structure``, a part's name or a mapping with its ``name`` and arguments; ``rule``, ``rates`` and ``output``, the arguments of
            ``SelfModifyingRule``, ``Rates`` and ``Output``; ``heads``, ``adaptive`` and ``conv`` as in ``SelfModifyingMemory``. What is left out has its default.
        dim: Width of the stream.

    Raises:
        ValueError: A key is unknown; the message names it and what there is.

    Examples:
        >>> self_modifying_from({"heads": 2, "rule": {"chunk": 4, "momentum": 0.5}, "rates": {"eta": 0.1}}, dim=8).rule.momentum
        0.5
    """
    kinds: dict[str, type] = {"rule": SelfModifyingRule, "rates": Rates, "output": Output}
    _check("self_modifying", given, ("structure", "heads", "adaptive", "conv", *kinds))
    parts: dict[str, Any] = {name: given[name] for name in ("heads", "conv") if name in given}
    for name, kind in kinds.items():
        inner = dict(given.get(name, {}))
        _check(f"self_modifying[{name!r}]", inner, tuple(field.name for field in fields(kind)))
        if name in given:
            parts[name] = kind(**{key: frozenset(value) if key == "unit" else value for key, value in inner.items()})
    if "structure" in given:
        parts["structure"] = _part("structure", given["structure"])
        if not isinstance(parts["structure"], (structure.ResidualMLP, structure.Matrix)):
            raise ValueError(f"self-modifying memories are of the structure 'ResidualMLP' or 'Matrix', got {given['structure']!r}.")
    if given.get("adaptive") is not None:
        parts["adaptive"] = frozenset(given["adaptive"])
    return SelfModifyingMemory(dim, **parts)


def presets_by_name() -> dict[str, Callable[..., Any]]:
    """The presets that a configuration can name."""
    return {name: part for name, part in vars(presets).items() if inspect.isfunction(part)}


def _part(choice: str, given: Any) -> Any:
    """A structure, bias, retention gate, learner or features, with the parts that it is made of in turn."""
    module, kind = _CHOICES[choice]
    known = {name: part for name, part in vars(module).items() if inspect.isclass(part) and issubclass(part, kind)}
    name, arguments = (given, {}) if isinstance(given, str) else (given.get("name"), {key: value for key, value in given.items() if key != "name"})
    if name not in known:
        raise ValueError(f"there is no {choice} {name!r}; choose one of {', '.join(known)}.")
    _check(f"the {choice} {name}", arguments, tuple(inspect.signature(known[name]).parameters))
    return known[name](**{key: _part(choice, value) if isinstance(value, Mapping) else value for key, value in arguments.items()})


def _check(what: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"{what} has no {', '.join(map(repr, unknown))}; it has {', '.join(known)}.")
