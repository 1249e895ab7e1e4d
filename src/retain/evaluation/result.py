"""What all results have in common: JSON, tables in Markdown, and controls in them."""

from __future__ import annotations

import json
import math
import platform
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from .stream import device_of

MODEL = "model"
"""The name of the rows of a model with all it has."""
WITHOUT_CONTROLS = "without controls"
"""What the title of a table must say that has none."""
FORMAT = 1

About = Mapping[str, str | int]
R = TypeVar("R", bound="AbstractResult")


class AbstractResult(ABC):
    """Numbers of an evaluation: a frozen dataclass that can be kept as JSON and printed as Markdown.

    Examples:
        >>> from retain.evaluation import Cost
        >>> result: AbstractResult = Cost(title="Cost", parameters=12, batch=1, rows=(), about={})
        >>> Cost.from_json(result.to_json()) == result
        True
    """

    kind: ClassVar[str]

    def to_json(self) -> str:
        """The result as JSON text."""
        return json.dumps({"kind": self.kind, "format": FORMAT, **asdict(self)}, indent=1)  # pyright: ignore[reportArgumentType]

    @classmethod
    def from_json(cls: type[R], text: str) -> R:
        """The result that ``to_json`` wrote.

        Raises:
            ValueError: The text is something else, or another kind of result.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ValueError(f"this is not JSON ({error}); {cls.__name__}.to_json writes what is read here.") from None
        found = (data.pop("kind", None), data.pop("format", None)) if isinstance(data, dict) else (None, None)
        if found != (cls.kind, FORMAT):
            raise ValueError(
                f"{cls.__name__} reads results of kind {cls.kind!r}, format {FORMAT}; this is of kind {found[0]!r}, format {found[1]!r}."
            )
        try:
            return cls.of(data)
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is a damaged result of kind {cls.kind!r}: {error}.") from None

    @classmethod
    @abstractmethod
    def of(cls: type[R], data: Mapping[str, Any]) -> R:
        """The result of these fields, as JSON holds them."""

    @abstractmethod
    def markdown(self) -> str:
        """The result as a table."""

    def __str__(self) -> str:
        return self.markdown()


def about(model: nn.Module) -> dict[str, str | int]:
    """What a number must be read with: the model's class, versions, device and threads.

    Examples:
        >>> about(nn.Linear(1, 1))["model"], about(nn.Linear(1, 1))["device"]
        ('Linear', 'cpu')
    """
    return {
        "model": type(model).__name__,
        "retain": version("retain"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": str(device_of(model)),
        "threads": torch.get_num_threads(),
    }


def titled(title: str, controls: Sequence[object]) -> str:
    """A title that says so if there are no controls.

    Examples:
        >>> titled("MQAR", [])
        'MQAR (without controls)'
    """
    return title if controls or WITHOUT_CONTROLS in title else f"{title} ({WITHOUT_CONTROLS})"


def check_controls(title: str, controls: Sequence[str], found: Sequence[str], own: str = MODEL) -> None:
    """Refuse to show a result whose controls are not there, unless its title says so.

    Args:
        title: What it says.
        controls: Names of the controls that belong to it.
        found: Names of the rows that are there.
        own: The name of the rows that are held against the controls.

    Raises:
        ValueError: There are no controls, or some are named that are not there.

    Examples:
        >>> check_controls("MQAR", ["writes off"], ["model", "writes off"])
    """
    if not controls and WITHOUT_CONTROLS not in title:
        raise ValueError(
            f"{title!r} has no controls, so nothing shows that the answers come through a memory. Cure: run it with controls, or with controls=() and a "
            f"title that says {WITHOUT_CONTROLS!r}."
        )
    missing = [name for name in (own, *controls) if name not in found]
    if missing:
        raise ValueError(f"{title!r} is not whole: it lacks the rows of {', '.join(map(repr, missing))}.")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown.

    Examples:
        >>> print(table(["a", "b"], [["1", "2"]]))
        | a | b |
        | --- | --- |
        | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def figures(x: float) -> str:
    """A number by its three leading digits, in groups of three.

    Examples:
        >>> figures(31247.0), figures(0.02468), figures(0)
        ('31,200', '0.0247', '0')
    """
    if x == 0 or not math.isfinite(x):
        return f"{x:g}"
    if abs(x) < 100:
        return f"{x:.3g}"
    return f"{round(x, 2 - math.floor(math.log10(abs(x)))):,.0f}"
