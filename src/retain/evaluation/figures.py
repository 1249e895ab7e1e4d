"""Figures of results, as PNG bytes. Drawn without a display and without any state of matplotlib's, which is only imported to draw."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from retain.storage import write_whole

from .perplexity import Perplexity
from .recall import Measure, Recall, RecallRow
from .result import MODEL
from .retrofit.after_cut import AfterCut
from .retrofit.page_recall import PageRecall, PageRow
from .retrofit.readings import MEMORY

QUIET = "#777777"
STYLES = (("#c8553d", "s"), ("#6b7a3a", "^"), ("#8a5a9e", "v"), ("#b8860b", "D"), ("#3b8686", "P"))
OWN = ("#1b6ca8", "o")
SAYS: dict[Measure, str] = {"teacher": "asked tokens right", "exact": "answers right, greedily decoded", "whole": "samples with every answer right"}
PageMeasure = Literal["exact", "tokens", "characters"]
PAGE_SAYS: dict[PageMeasure, str] = {
    "exact": "answers right, greedily decoded",
    "tokens": "tokens right, given those before",
    "characters": "characters right, given the tokens before",
}


def draw_recall(
    result: Recall, path: Path | None = None, *, by: str | None = None, edges: Sequence[float] | None = None, measure: Measure = "exact"
) -> bytes:
    """Accuracy against a fact, with Wilson intervals: the model as a thick line, its controls as thin ones. The axis is logarithmic over wide ranges.

    Args:
        result: What to draw.
        path: A file to write the figure to, whole or not at all; None writes none.
        by: The fact; None takes the result's own.
        edges: Where groups of numbers begin and end; None chooses.
        measure: ``"teacher"``, ``"exact"`` or ``"whole"``; see ``recall``.

    Returns:
        The figure as PNG.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: The controls are not there and the title does not say so, the grouping does not fit, or there is no such measure.

    Examples:
        >>> from retain.evaluation import Outcome, Share
        >>> outcomes = [Outcome(reading=name, seed=0, facts={"hops": 2}, tokens=Share(1, 2), answers=Share(0, 1)) for name in ("model", "writes off")]
        >>> result = Recall(title="Hops", controls=("writes off",), outcomes=tuple(outcomes), by="hops", chance=None, about={})
        >>> draw_recall(result)[1:4]
        b'PNG'
    """
    result.check()
    if measure not in SAYS:
        raise ValueError(f"measure must be one of {', '.join(map(repr, SAYS))}, got {measure!r}.")
    figure, axes = _canvas()
    _draw_shares(axes, result.rows(by, edges), (MODEL, *result.controls), measure)
    if result.chance is not None:
        axes.axhline(result.chance, color=QUIET, linewidth=0.9, linestyle="--", label="chance")
    axes.set_xlabel(by or result.by or "")
    axes.set_ylabel(SAYS[measure])
    return _finish(figure, axes, f"{result.title} (bars: 95 % Wilson intervals)", path)


def draw_page_recall(
    result: PageRecall, path: Path | None = None, *, by: str | None = None, edges: Sequence[float] | None = None, measure: PageMeasure = "exact"
) -> bytes:
    """Accuracy of a model with memories against a fact, with Wilson intervals: the memory as a thick line, its four controls as thin ones.

    Args:
        result: What to draw.
        path: A file to write the figure to, whole or not at all; None writes none.
        by: The fact; None takes the result's own.
        edges: Where groups of numbers begin and end; None chooses.
        measure: ``"exact"``, ``"tokens"`` or ``"characters"``.

    Returns:
        The figure as PNG.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: The controls are not there, the grouping does not fit, or there is no such measure.

    Examples:
        >>> from retain.evaluation import PageOutcome, Share
        >>> from retain.evaluation.retrofit import READINGS
        >>> rest = {"seed": 0, "number": 0, "facts": {"hops": 2}, "tokens": Share(1, 2), "characters": Share(0, 0)}
        >>> result = PageRecall(title="Hops", outcomes=tuple(PageOutcome(reading=name, **rest) for name in READINGS), by="hops", about={})
        >>> draw_page_recall(result)[1:4]
        b'PNG'
    """
    result.check()
    if measure not in PAGE_SAYS:
        raise ValueError(f"measure must be one of {', '.join(map(repr, PAGE_SAYS))}, got {measure!r}.")
    figure, axes = _canvas()
    _draw_shares(axes, result.rows(by, edges), (MEMORY, *result.controls), measure)
    axes.set_xlabel(by or result.by or "")
    axes.set_ylabel(PAGE_SAYS[measure])
    return _finish(figure, axes, f"{result.title} (bars: 95 % Wilson intervals)", path)


def draw_after_cut(result: AfterCut, path: Path | None = None) -> bytes:
    """Nats a token by the place behind the cut, on a logarithmic axis: the memory as a thick line, its four controls as thin ones.

    Args:
        result: What to draw.
        path: A file to write the figure to, whole or not at all; None writes none.

    Returns:
        The figure as PNG.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: The controls are not there.

    Examples:
        >>> from retain.evaluation import Stretch
        >>> from retain.evaluation.retrofit import READINGS
        >>> stretches = tuple(Stretch(reading=name, seed=0, number=0, tokens=2, nats=(3.0, 2.0)) for name in READINGS)
        >>> draw_after_cut(AfterCut(title="Code", edges=(0, 1, 2), stretches=stretches, about={}))[1:4]
        b'PNG'
    """
    result.check()
    figure, axes = _canvas()
    middles = [math.sqrt((low + 1) * high) for low, high in pairwise(result.edges)]  # places count from 1 on an axis of octaves
    for reading, (colour, marker) in _styled(MEMORY, (MEMORY, *result.controls)):
        nats, mean = [result.at(reading, number) for number in range(len(middles))], result.mean(reading)
        label = f"{reading}: mean {mean.value:.3f}" if mean.texts else f"{reading}: does not apply"
        axes.plot(middles, nats, label=label, color=colour, marker=marker, **_line(reading == MEMORY))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("place behind the cut (tokens)")
    axes.set_ylabel("nats a token")
    return _finish(figure, axes, result.title, path)


def draw_perplexity(result: Perplexity, path: Path | None = None) -> bytes:
    """Bits a token, or a byte if that is known, by place in the text: the model as a thick line, its controls as thin ones.

    Args:
        result: What to draw.
        path: A file to write the figure to, whole or not at all; None writes none.

    Returns:
        The figure as PNG.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: The controls are not there and the title does not say so.

    Examples:
        >>> result = Perplexity(
        ...     title="A book", controls=("writes off",), edges=(1, 3, 5), bits={"model": (2.0, 1.0), "writes off": (2.0, 2.0)}, rows=1,
        ...     bytes_per_token=None, about={},
        ... )
        >>> draw_perplexity(result)[1:4]
        b'PNG'
    """
    result.check()
    figure, axes = _canvas()
    unit = result.bytes_per_token or 1.0
    middles = [(low + high) / 2 for low, high in pairwise(result.edges)]
    for reading, (colour, marker) in _styled(MODEL, list(result.bits)):
        label = f"{reading}: mean {result.mean(reading) / unit:.3f}"
        axes.plot(middles, [bits / unit for bits in result.bits[reading]], label=label, color=colour, marker=marker, **_line(reading == MODEL))
    axes.set_xlabel("place in the text (tokens)")
    axes.set_ylabel("bits a token" if result.bytes_per_token is None else "bits a byte")
    return _finish(figure, axes, result.title, path)


def _draw_shares(axes: Any, rows: Sequence[RecallRow] | Sequence[PageRow], readings: Sequence[str], measure: str) -> None:
    """A line for each reading, that which the others are held against first; the axis is logarithmic over wide ranges."""
    groups = list(dict.fromkeys((row.group, row.middle) for row in rows))
    middles = [middle for _, middle in groups]
    numbers = [middle for middle in middles if middle is not None]
    where = dict(zip((name for name, _ in groups), numbers if len(numbers) == len(groups) else range(len(groups)), strict=True))
    for reading, (colour, marker) in _styled(readings[0], readings):
        own = [row for row in rows if row.reading == reading and getattr(row, measure).asked]
        x, share = [where[row.group] for row in own], [getattr(row, measure) for row in own]
        errors = [[s.value - s.interval[0] for s in share], [s.interval[1] - s.value for s in share]]
        errors = [[max(0.0, error) for error in side] for side in errors]
        label = reading if own else f"{reading}: does not apply"
        line = _line(reading == readings[0])
        axes.errorbar(x, [s.value for s in share], errors, label=label, color=colour, marker=marker, elinewidth=1, capsize=2, **line)
    if len(numbers) < len(groups):
        axes.set_xticks(range(len(groups)), [name for name, _ in groups])
    elif min(numbers) > 0 and max(numbers) >= 4 * min(numbers):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axes.set_ylim(-0.03, 1.03)


def _styled(own: str, readings: Sequence[str]) -> list[tuple[str, tuple[str, str]]]:
    """Readings with their colours and markers; ``own`` comes first, whatever its place."""
    controls = [reading for reading in readings if reading != own]
    return [(own, OWN), *((reading, STYLES[i % len(STYLES)]) for i, reading in enumerate(controls))]


def _line(own: bool) -> dict[str, Any]:
    return {
        "linewidth": 2.4 if own else 0.9,
        "markersize": 7 if own else 3.5,
        "zorder": 2 if own else 3,
    }  # thin ones lie on top, so that none is hidden


def _canvas() -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("figures need matplotlib. Cure: pip install 'retain[plot]'.") from error
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _finish(figure: Any, axes: Any, title: str, path: Path | None) -> bytes:
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=9)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    if path is not None:
        write_whole(path, out.getvalue(), mode=0o644)
    return out.getvalue()
