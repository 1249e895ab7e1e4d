"""Runs that are known by name, and runs from a file."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from retain.tasks import MQAR, Corpus, LanguageModelling, Needle, Parity

from .run import Lesson, Reading, Run, Schedule

R = TypeVar("R")

_RECALLING: dict[str, Any] = {
    "preset": "delta_net",
    "gates": {"lr": 0.5},
    "projections": {"start": "recall"},
    "output": {"gate": None},
}


def mqar() -> Run:
    """Multi-query associative recall: a matrix memory binds keys to values and is asked for them, in under a minute."""
    lesson = Lesson(tasks=(MQAR(),), steps=400, promote_at=0.995)
    return Run(model=_small("lmm", _RECALLING), lessons=(lesson,))


def needle() -> Run:
    """A passkey in repeated text, found far beyond what attention sees, in under a minute.

    The gates can shut to an exact zero and pay for standing open: that is what makes a memory last through text that holds nothing.
    """
    tasks = [Needle(length=length) for length in (128, 256, 512)]
    lessons = tuple(Lesson(tasks=tuple(tasks[: i + 1]), steps=150) for i in range(3))
    memory = {**_RECALLING, "gates": {"curve": "hard", "lr": 0.5}}
    return Run(model={**_small("mag", memory), "gating": "add", "write_cost": 0.2}, lessons=lessons, reading=Reading(rows=16))


def code() -> Run:
    """Bytes of the standard library, in documents that are longer than what is read at once: the memory goes on from segment to segment."""
    train, _ = Corpus.code().split(held_out=("email", "asyncio", "http"))
    lesson = Lesson(tasks=(LanguageModelling(book=train.book(), length=8193),), steps=2000)
    reading = Reading(rows=8, segment=512)
    model = {**_small("mac", None), "hidden_size": 128, "num_hidden_layers": 2, "window": 64}
    return Run(model=model, lessons=(lesson,), reading=reading, schedule=Schedule(lr=2e-3, gate_lr=4e-3))


def hope() -> Run:
    """Parity, which needs a state: Hope's memories rewrite themselves at each token, and a level of its token-wise half learns every 16, in a minute or two."""
    known, longer = (Parity(shortest=2, longest=longest) for longest in (8, 24))
    model = {**_small("hope", None), "hidden_size": 32, "levels": [{"every": 16, "options": {"lr": 1e-3}, "learnt_rate": True}]}
    memory = {"structure": "Matrix", "rule": {"chunk": 1}, "rates": {"eta": 0.5}}
    lessons = (Lesson(tasks=(known,), steps=70, promote_at=0.99), Lesson(tasks=(longer,), steps=170))
    return Run(model={**model, "self_modifying": memory}, lessons=lessons, schedule=Schedule(gate_lr=3e-3))


RECIPES: dict[str, Callable[[], Run]] = {"mqar": mqar, "needle": needle, "code": code, "hope": hope}


def recipe(name: str) -> Run:
    """The run of that name, or the one that the function ``run`` of a Python file returns.

    Raises:
        ValueError: There is no such name or file, or the file has no such function.

    Examples:
        >>> recipe("mqar").steps
        400
    """
    if name in RECIPES:
        return RECIPES[name]()
    if not Path(name).is_file():
        raise ValueError(
            f"there is no recipe {name!r} and no such file; choose {', '.join(RECIPES)}, or write a Python file with `def run() -> Run`."
        )
    return made_by(Path(name), Run)


def made_by(path: Path, kind: type[R], *given: Any) -> R:
    """What the function ``run`` of a Python file returns, called with ``given``.

    Raises:
        ValueError: The file has no such function, or that returns something else than a ``kind``.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     _ = Path(place, "twice.py").write_text("def run(number):\\n    return 2 * number\\n")
        ...     made_by(Path(place, "twice.py"), int, 4)
        8
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file: its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.run(*given) if hasattr(module, "run") else None
    if not isinstance(made, kind):
        place = kind.__module__.rpartition(".")[0]
        raise ValueError(f"{path} must have a function `run` that returns a {place}.{kind.__name__}; it returned {type(made).__name__}.")
    return made


def changed(run: R, settings: Sequence[str]) -> R:
    """The run with settings changed, each in the form ``place=value``, the value as JSON or plain words.

    Raises:
        ValueError: A setting is not of that form, or there is no such place; the message names those that there are.

    Examples:
        >>> changed(recipe("mqar"), ["model.block=mag", "reading.rows=8", "lessons.0.steps=10"]).reading.rows
        8
    """
    for setting in settings:
        place, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"a setting has the form place=value, such as reading.rows=8; got {setting!r}.")
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        run = _put(run, place.split("."), parsed, place)
    return run


def _put(here: Any, path: list[str], value: Any, place: str) -> Any:
    name, rest = path[0], path[1:]
    if isinstance(here, tuple) and name.isdigit() and int(name) < len(here):
        items = list(here)
        items[int(name)] = _put(items[int(name)], rest, value, place) if rest else value
        return tuple(items)
    if isinstance(here, dict):
        return {**here, name: _put(here.get(name) or {}, rest, value, place) if rest else value}
    if is_dataclass(here) and not isinstance(here, type):
        names = [field.name for field in fields(here) if field.init]
        if name in names:
            new = _put(getattr(here, name), rest, value, place) if rest else value
            return replace(here, **{name: tuple(new) if isinstance(new, list) else new})
        raise ValueError(f"there is no {place!r}: {type(here).__name__} has {', '.join(names)}.")
    raise ValueError(f"there is no {place!r}: {name!r} leads nowhere.")


def _small(block: str, memory: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "block": block,
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "window": 32,
        "persistent_tokens": 0,
        "memory": memory,
    }
