"""The tables and the figure of what `run.py` found with all seeds: python -m recipes.class_incremental.report"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..evidence import figure_kept, spread, table_put
from .learner import FASTEST
from .streams import LESSONS, PER_TASK, TASKS, Data
from .tune import HERE, JOINT, SHUFFLED
from .variants import VARIANTS

TITLES = {"digits": "Digits", "source": "Source"}
HOWS = ("knows most", "forgets least", "meta-learnt")
COLOURS = {"one block": "#333333", "1 frequency": "#c8553d", "2 frequencies": "#b8860b", "3 frequencies": "#1b6ca8", "3, nested": "#3b8686"}


def cells(results: list[dict[str, Any]], name: str, how: str) -> list[dict[str, Any]]:
    """Of each seed, what a variant came to; none where it was not tried."""
    return [result["variants"][name]["cells"][how] for result in results if how in result["variants"].get(name, {}).get("cells", {})]


def row(name: str, found: list[dict[str, Any]]) -> list[str]:
    """Means and spreads of the seeds; rates and periods where they are the same for all."""
    newest = [sum(cell["newest"]) / len(cell["newest"]) for cell in found]
    numbers = [spread(values) for values in ([cell["final"][0] for cell in found], [cell["forgotten"][0] for cell in found], newest)]
    return [name, *numbers, *(spread([cell[label][0] for cell in found]) for label in ("told", "joint", "off")), _settings(name, found)]


def _settings(name: str, found: list[dict[str, Any]]) -> str:
    rates = found[0]["rates"]
    if "lr" in rates:
        learnt = [sum(cell["rates"]["lr"][i] for cell in found) / len(found) for i in range(len(rates["lr"]))]
        return _said(rates["every"], learnt)
    steps = VARIANTS[name].steps
    return _said([FASTEST * rates["spacing"] ** step for step in steps], [rates["first"] * rates["ratio"] ** i for i in range(len(steps))])


def _said(every: list[int], lr: list[float]) -> str:
    return f"{', '.join(map(str, every))}; {', '.join(f'{rate:.2g}' for rate in lr)}"


def lines(results: list[dict[str, Any]], how: str) -> Iterator[list[str]]:
    """The table of one data set, from one kind of starts."""
    yield ["variant", "at the end, all classes", "forgotten", "newest task", "task told", "in random order", "learning off", "periods; rates"]
    for name in VARIANTS:
        if found := cells(results, name, how):
            yield row(name, found)


def main() -> None:
    """Write the tables into README.md and draw class_incremental.png."""
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, 2)
    bounds = [["data", "at the end, all classes"]]
    tuned = json.loads((HERE / "tuning.json").read_text())
    for data, (left, right) in zip(get_args(Data), grid, strict=True):
        results = [json.loads(path.read_text()) for path in sorted(HERE.glob(f"seed-*/{data}.json"))]
        for how in HOWS:
            table_put(HERE / "README.md", list(lines(results, how)), f"{data}, {how}")
        bounds.append([data, spread([cell["joint"][0] for cell in cells(results, SHUFFLED, JOINT)])])
        _after_tasks(left, results)
        left.set_title(f"{TITLES[data]}: all classes seen so far", loc="left", fontsize=11)
        _trade(right, tuned[data])
        right.set_title(f"{TITLES[data]}: all trials of tuning", loc="left", fontsize=11)
    table_put(HERE / "README.md", bounds, JOINT)
    grid[0, 0].legend(frameon=False, fontsize=8)
    figure_kept(HERE / "class_incremental.png", figure)


def _after_tasks(axes: Axes, results: list[dict[str, Any]]) -> None:
    places = range(PER_TASK, PER_TASK * TASKS + 1, PER_TASK)
    for name, colour in COLOURS.items():
        found = [cell["seen"] for cell in cells(results, name, "knows most")]
        axes.plot(places, [sum(each) / len(each) for each in zip(*found, strict=True)], marker="o", markersize=4, color=colour, label=name)
        axes.fill_between(
            places, [min(each) for each in zip(*found, strict=True)], [max(each) for each in zip(*found, strict=True)], color=colour, alpha=0.12
        )
        axes.set_ylim(0, 1)
    axes.set_xlabel(f"classes in the stream so far, {LESSONS} samples each")
    axes.set_ylabel("right (band: all seeds)")


def _trade(axes: Axes, tuned: dict[str, list[dict[str, Any]]]) -> None:
    for name, colour in COLOURS.items():
        axes.plot([t["newest"] for t in tuned[name]], [t["forgotten"] for t in tuned[name]], ".", color=colour, markersize=5, label=name)
    axes.set_xlabel("right about the newest task")
    axes.set_ylabel("forgotten")


if __name__ == "__main__":
    main()
