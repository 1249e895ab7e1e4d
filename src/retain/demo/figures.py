"""The two figures of the demonstration, as PNG bytes. Drawn without a display and without any state of matplotlib's."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

ON, OFF, CONTROL, QUIET = "#1b6ca8", "#c8553d", "#6b7a3a", "#777777"


def draw_needle(results: dict[str, Any]) -> bytes:
    """Exact match and memory against the length of the haystack, and the write gate around one needle."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(1.25, 1))
    reports = [results[f"needle/{length}"] for length, _ in results["options"]["needles"]]
    _matches(figure.add_subplot(grid[0, 0]), reports)
    _memory(figure.add_subplot(grid[0, 1]), reports)
    _gate(figure.add_subplot(grid[1, :]), results["needle/gate"])
    return _png(figure)


def draw_code(results: dict[str, Any]) -> bytes:
    """Bits per byte along the package, and what writing saves."""
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
    on, off, control = results["code/writes_on"], results["code/writes_off"], results["code-control/writes_off"]
    curves = (
        (on, ON, "o", "memory writes on"),
        (off, OFF, "s", "same model, writes off"),
        (control, CONTROL, "^", "trained and read with writes off"),
    )
    width = on["bytes"] / len(on["by_position"]) / 1e3
    middle = [(i + 0.5) * width for i in range(len(on["by_position"]))]
    for report, colour, marker, label in curves:
        mean = report["bits_per_byte"]
        upper.plot(middle, report["by_position"], color=colour, marker=marker, markersize=4, linewidth=1.4, label=f"{label}: mean {mean:.3f}")
    upper.set_ylabel("bits per byte")
    upper.set_title(f"Reading {', '.join(on['package'])} (held out, {on['bytes']:,} bytes) once, from first byte to last", loc="left")
    _headroom(upper, 0.3)
    upper.legend(frameon=False, loc="upper right")
    for report, colour, marker, label in curves[1:]:
        saved = [b - a for a, b in zip(on["by_position"], report["by_position"], strict=True)]
        lower.plot(middle, saved, color=colour, marker=marker, markersize=4, linewidth=1.4, label=f"against: {label}")
    lower.axhline(0, color=QUIET, linewidth=0.8)
    lower.set_ylabel("bits per byte saved\nby writing")
    lower.set_xlabel(f"position in the package (kB; each point is the mean of {width:.0f} kB)")
    _headroom(lower, 0.45)
    lower.legend(frameon=False, loc="upper right")
    for axes in (upper, lower):
        _plain(axes)
    return _png(figure)


def _matches(axes: Axes, reports: list[dict[str, Any]]) -> None:
    places = range(len(reports))
    for mode, colour, shift, label in (("writes_on", ON, -0.2, "memory writes on"), ("writes_off", OFF, 0.2, "writes off")):
        bars = axes.bar([p + shift for p in places], [r[mode]["right"] / r[mode]["asked"] for r in reports], 0.38, color=colour, label=label)
        axes.bar_label(bars, [f"{r[mode]['right']} of {r[mode]['asked']}" for r in reports], padding=2, fontsize=9)
    axes.set_xticks(list(places), [_size(r["length"]) for r in reports])
    axes.set_ylim(0, 1.3)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("length of the haystack (bytes = tokens)")
    axes.set_ylabel("all five digits right")
    axes.set_title("A needle in real text (guessing: 0.001 %)", loc="left")
    axes.legend(frameon=False, loc="upper right", ncols=2)
    _plain(axes)


def _memory(axes: Axes, reports: list[dict[str, Any]]) -> None:
    lengths = [r["length"] for r in reports]
    state = reports[-1]["writes_on"]["state_bytes"]
    if all(r["writes_on"]["resident"] for r in reports):
        most = [r["writes_on"]["resident"][1] / 1e6 for r in reports]
        axes.plot(lengths, most, color=ON, marker="o", label="process, at most while reading")
        for r, height in zip(reports, most, strict=True):
            rows = r["writes_on"]["asked"]
            axes.annotate(f"{height:.0f} MB\n{rows} rows", (r["length"], height), (0, 9), textcoords="offset points", ha="center", fontsize=9)
        axes.set_ylim(0, 1.45 * max(most))
    axes.plot(
        lengths, [r["writes_on"]["state_bytes"] / 1e6 for r in reports], color=CONTROL, marker="s", label=f"state of one row: {state / 1e3:.0f} kB"
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [_size(length) for length in lengths])
    axes.minorticks_off()
    axes.margins(x=0.12)
    axes.set_xlabel("length of the haystack (bytes = tokens)")
    axes.set_ylabel("memory (MB)")
    axes.set_title("Memory does not grow with what was read", loc="left")
    axes.legend(frameon=False, loc="center", bbox_to_anchor=(0.5, 0.25))
    _plain(axes)


def _gate(axes: Axes, trace: dict[str, Any]) -> None:
    near = trace["near"]
    places = range(len(near["text"]))
    axes.bar(places, near["open"], 0.8, color=ON)
    axes.set_xticks(list(places), near["text"], fontfamily="monospace", fontsize=9)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.8, len(near["text"]) - 0.2)
    axes.set_ylim(0, max(1.0, *near["open"]))
    axes.set_ylabel("write gate (1 = fully open)")
    axes.set_xlabel(
        f"bytes around the needle (¶ is a line end); over the other {_size(trace['length'])} bytes it opens for {trace['share_of_hay_written']:.3%}"
    )
    axes.set_title("The memory writes where the mark stands", loc="left")
    _plain(axes)


def _headroom(axes: Axes, share: float) -> None:
    """Room for a legend above the curves."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + share * (high - low))


def _size(length: int) -> str:
    for unit, name in ((1 << 20, "M"), (1 << 10, "k")):
        if length % unit == 0:
            return f"{length // unit}{name}"
    return f"{length:,}"


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()
