"""Figures: PNG files, with the model as a thick line, its controls as thin ones, and intervals."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from retain.evaluation import Outcome, Perplexity, Recall, Share, draw_perplexity, draw_recall
from retain.evaluation import figures as drawing

CONTROLS = ("writes off", "memory reset", "window cut")


def outcome(reading: str, seed: int, distance: int | str, right: int) -> Outcome:
    applies = reading != "window cut" or seed > 0
    share = Share(right, 4) if applies else Share(0, 0)
    return Outcome(reading=reading, seed=seed, facts={"distance": distance}, tokens=share, answers=share)


def found(distances: tuple[int | str, ...] = (64, 1024, 16384), chance: float | None = 0.1) -> Recall:
    outcomes = [
        outcome(reading, seed, distance, 4 - seed if reading == "model" else 0)
        for reading in ("model", *CONTROLS)
        for seed, distance in enumerate(distances)
    ]
    return Recall(title="Needles", controls=CONTROLS, outcomes=tuple(outcomes), by="distance", chance=chance, about={})


BITS = Perplexity(
    title="A book",
    controls=("writes off",),
    edges=(1, 101, 201),
    bits={"model": (4.0, 2.0), "writes off": (4.0, 4.0)},
    rows=1,
    bytes_per_token=2.0,
    about={},
)


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of the figures that a test draws."""
    kept, canvas = [], drawing._canvas

    def keep() -> tuple[Any, Any]:
        figure, drawn = canvas()
        kept.append(drawn)
        return figure, drawn

    monkeypatch.setattr(drawing, "_canvas", keep)
    return kept


def size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def test_figures_are_png_files(tmp_path: Path) -> None:
    for name, png in (
        ("recall.png", draw_recall(found(), tmp_path / "recall.png")),
        ("bits.png", draw_perplexity(BITS, tmp_path / "bits.png")),
    ):
        assert (tmp_path / name).read_bytes() == png
        assert min(size(png)) > 300
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bits.png", "recall.png"]


def test_recall_is_drawn_with_controls_chance_and_wilson_intervals(axes: list[Any]) -> None:
    result = found()
    draw_recall(result, measure="teacher")
    lines = {bars.get_label(): bars for bars in axes[0].containers}
    assert list(lines) == ["model", *CONTROLS]
    widths = {label: bars.lines[0].get_linewidth() for label, bars in lines.items()}
    assert all(widths["model"] > 2 * widths[control] for control in CONTROLS)
    assert lines["model"].lines[0].get_xydata().tolist() == [[64, 1.0], [1024, 0.75], [16384, 0.5]]
    assert len(lines["window cut"].lines[0].get_xydata()) == 2, "where it does not apply nothing is drawn"
    (bars,) = lines["model"].lines[2]
    ends = [(segment[0][1], segment[1][1]) for segment in bars.get_segments()]
    for end, right in zip(ends, (4, 3, 2), strict=True):
        assert end == pytest.approx(Share(right, 4).interval)
    assert axes[0].get_xscale() == "log"
    assert "chance" in axes[0].get_legend_handles_labels()[1]


def test_near_distances_are_drawn_evenly_and_words_by_name(axes: list[Any]) -> None:
    draw_recall(found((10, 20, 30), chance=None))
    draw_recall(found(("garden", "kitchen", "office")))
    assert [drawn.get_xscale() for drawn in axes] == ["linear", "linear"]
    assert "chance" not in axes[0].get_legend_handles_labels()[1]
    assert [label.get_text() for label in axes[1].get_xticklabels()] == ["garden", "kitchen", "office"]


def test_bits_are_drawn_in_the_middle_of_their_bins(axes: list[Any]) -> None:
    draw_perplexity(BITS)
    drawn = {line.get_label(): line for line in axes[0].lines}
    assert list(drawn) == ["model: mean 1.500", "writes off: mean 2.000"]
    assert drawn["model: mean 1.500"].get_xydata().tolist() == [[51, 2.0], [151, 1.0]]
    assert axes[0].get_ylabel() == "bits a byte"


def test_a_figure_needs_controls_as_its_table_does() -> None:
    bare: dict[str, Any] = {"title": "Needles", "controls": (), "about": {}}
    with pytest.raises(ValueError, match="has no controls"):
        draw_recall(Recall(**bare, outcomes=(outcome("model", 0, 8, 4),), by=None, chance=None))
    with pytest.raises(ValueError, match="has no controls"):
        draw_perplexity(Perplexity(**bare, edges=(1, 2), bits={"model": (1.0,)}, rows=1, bytes_per_token=None))


def test_another_measure_is_refused() -> None:
    measure: Any = "quark"
    with pytest.raises((ValueError, TypeError), match=r"measure|quark"):
        draw_recall(found(), measure=measure)


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'retain\[plot\]'"):
        draw_perplexity(BITS)
