"""Results as two figures: times faster and smaller than the peer, and what a token costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

INK, PAPER, QUIET = "#22303c", "#ffffff", "#8a97a3"
COLOURS = {
    "ours": "#0072b2",
    "ours, a step per 64 tokens": "#56b4e9",
    "peer": "#d55e00",
    "peer, a step per 64 tokens": "#e69f00",
    "attention": "#009e73",
}
_TICKS = (1, 2, 5)
_PHASES = {"forward": "#0072b2", "train": "#56b4e9", "peak": "#009e73"}


def draw(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw what the results hold.

    Args:
        results: What ``run`` returned, or the JSON it was written to.
        folder: Where ``speed.png`` and ``growth.png`` go.

    Returns:
        The files that were written.
    """
    written = []
    rows = [row for row in results["rows"] if row.get("phase") in ("forward", "train") and row["agree"]]
    if rows:
        written.append(_speed(rows, folder / "speed.png"))
    if "growth" in results or "decoding" in results:
        written.append(_growth(results, folder / "growth.png"))
    return written


def _figure(width: float, height: float, panels: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure  # of the extra `cli`; slow to load, and needed here only

    figure = Figure(figsize=(width, height), dpi=150, facecolor=PAPER, layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(colors=INK, labelsize=9)
        axis.grid(True, axis="y", color="#e4e8eb", linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, list(axes)


def _speed(rows: list[dict[str, Any]], path: Path) -> Path:
    """Three bars a setting, each with its target as a line across it."""
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    figure, (axis,) = _figure(8.6, 4.4, 1)
    bars = list(_bars(rows))
    low = min(0.5, *(times / 2 for _, _, times, _, _ in bars))
    high = 2.5 * max(max(times, target or 0) for _, _, times, target, _ in bars)
    for place, (setting, kind, times, target, label) in enumerate(bars):
        x = settings.index(setting) + 0.27 * (place % 3 - 1)
        axis.bar(x, times, width=0.24, color=_PHASES[kind], label=label if setting == settings[0] else None)
        axis.annotate(
            f"{times:.{3 if times >= 100 else 2}g}x",
            (x, low),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=9,
            weight="bold",
            color=PAPER,
        )
        if target:
            axis.plot([x - 0.12, x + 0.12], [target, target], color=INK, linewidth=1.6, label="target" if place == len(bars) - 1 else None)
    axis.set_yscale("log")
    axis.set_ylim(low, high)
    axis.axhline(1, color=QUIET, linewidth=1)
    _plain_ticks(axis, "x")
    said = {row["setting"]: row["what"].split(", ", 1)[1] for row in rows}
    axis.set_xticks(range(len(settings)), [f"{name}\n" + "\n".join(_folded(said[name])) for name in settings], fontsize=8)
    axis.set_title("Times faster and smaller than titans-pytorch 0.5.5, same outputs", loc="left", fontsize=11, color=INK)
    axis.legend(frameon=False, fontsize=9, ncols=4, loc="upper right")
    figure.savefig(path)
    return path


def _folded(sentence: str) -> Iterator[str]:
    yield from sentence.split(", ")


def _bars(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str, float, float | None, str]]:
    for row in rows:
        yield row["setting"], row["phase"], row["ratio"], row["target"], {"forward": "forward speed", "train": "training speed"}[row["phase"]]
        if row["phase"] == "train":
            target = row["peak_target"]
            yield row["setting"], "peak", 1 / row["peak_ratio"], target and 1 / target, "training memory"


def _growth(results: Mapping[str, Any], path: Path) -> Path:
    """Time and memory a token over the length of a call, and the time of one token over the tokens read before it."""
    panels = 2 * ("growth" in results) + ("decoding" in results)
    figure, axes = _figure(4.3 * panels, 4.0, panels)
    if "growth" in results:
        rows = [row for row in results["growth"]["rows"] if "skipped" not in row]
        _lines(axes[0], rows, "seconds_per_token", 1e6, "Microseconds a token")
        _lines(axes[1], rows, "mb_per_token", 1e3, "Peak kB a token")
        lines, names = axes[0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside lower left", ncols=len(names), frameon=False, fontsize=9)
    if "decoding" in results:
        _after(axes[-1], results["decoding"]["after"])
    figure.savefig(path)
    return path


def _lines(axis: Any, rows: list[dict[str, Any]], field: str, scale: float, title: str) -> None:
    for name, colour in COLOURS.items():
        line = [(row["tokens"], scale * row[field]) for row in rows if row["contender"] == name]
        if line:
            axis.plot(*zip(*line, strict=True), color=colour, marker="o", markersize=4, linewidth=2, label=name)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    lengths = sorted({row["tokens"] for row in rows})
    axis.set_xticks(lengths, [_short(n) for n in lengths])
    _plain_ticks(axis)
    axis.set_xlabel("tokens of the call", fontsize=9, color=INK)
    axis.set_title(title, loc="left", fontsize=11, color=INK)


def _after(axis: Any, after: list[dict[str, Any]]) -> None:
    lengths = [row["tokens_read"] for row in after]
    medians = [1e3 * row["seconds_per_token"] for row in after]
    low, high = ([1e3 * row[end] for row in after] for end in ("min", "max"))
    spread = [[m - a for m, a in zip(medians, low, strict=True)], [b - m for m, b in zip(medians, high, strict=True)]]
    axis.errorbar(lengths, medians, yerr=spread, color=COLOURS["ours"], marker="o", markersize=4, linewidth=2, capsize=3)
    axis.set_xscale("log", base=2)
    axis.set_xticks(lengths, [_short(n) for n in lengths])
    axis.set_ylim(0, 2 * max(medians))  # a spike goes off the top
    axis.set_xlabel("tokens read before", fontsize=9, color=INK)
    axis.set_title("Milliseconds for one more token", loc="left", fontsize=11, color=INK)


def _short(tokens: int) -> str:
    return f"{tokens // 1024}k" if tokens >= 1024 else str(tokens)


def _plain_ticks(axis: Any, unit: str = "") -> None:
    """1, 2, 5, 10, ... as they are read, over the range that a logarithmic axis has now."""
    low, high = axis.get_ylim()
    ticks = [digit * 10.0**power for power in range(-3, 7) for digit in _TICKS if low <= digit * 10.0**power <= high]
    axis.set_yticks(ticks, [f"{tick:,.10g}{unit}" for tick in ticks])
    axis.minorticks_off()
