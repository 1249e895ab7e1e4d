"""The tables and the figure of what `tune.py`, `run.py` and `speed.py` found: python -m recipes.optimizers.report"""

from __future__ import annotations

import json
import math
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..evidence import figure_kept, spread, table_put
from .contenders import CONTENDERS
from .problems import PROBLEMS
from .tune import TUNING, best

HERE = Path(__file__).parent
COLOURS = dict(zip(CONTENDERS, ("#333333", "#c8553d", "#1b6ca8", "#3b8686", "#8a5a9e"), strict=True))
UNITS = {"language": ("bits a byte", math.log(2), ".3f"), "digits": ("nats", 1.0, ".3f")}
"""What a loss is told in, how many nats that is, and its digits."""


def update_ms(speed: dict[str, Any], problem: str, name: str) -> float:
    """Milliseconds of an update: both passes, and the optimizer's step."""
    return step_ms(speed, problem, "passes") + step_ms(speed, problem, name)


def step_ms(speed: dict[str, Any], problem: str, what: str) -> float:
    """Median milliseconds of a step of the optimizer."""
    (row,) = (row for row in speed["rows"] if (row["problem"], row["what"]) == (problem, what))
    return row["ms"]


def loss_at(curve: list[list[float]], update: float) -> float:
    """The loss after so many updates, on straight lines between those that were looked at."""
    for (low, before, _), (high, after, _) in pairwise(curve):
        if update <= high:
            return before + (after - before) * (update - low) / (high - low)
    return curve[-1][1]


def results_of(problem: str) -> list[dict[str, Any]]:
    """What each seed found."""
    return [json.loads(path.read_text())["optimizers"] for path in sorted(HERE.glob(f"seed-*/{problem}.json"))]


def tried(trials: dict[str, list[dict[str, Any]]], unit: float, form: str) -> list[list[str]]:
    """The loss at each rate, the best one in bold."""
    lines = [["optimizer", *(f"rate {i + 1}" for i in range(max(map(len, trials.values()))))]]
    for name in CONTENDERS:
        found = trials[name]
        chosen, cells = best(found), []
        for trial in found:
            loss = "astray" if trial["loss"] is None else f"{trial['loss'] / unit:{form}}"
            cells.append(f"{trial['lr']:g}: **{loss}**" if trial is chosen else f"{trial['lr']:g}: {loss}")
        lines.append([name, *cells])
    return lines


def compared(problem: str, speed: dict[str, Any]) -> list[list[str]]:
    """What each optimizer came to, and what it took."""
    results, (said, unit, form) = results_of(problem), UNITS[problem]
    head = [
        "optimizer",
        "rate",
        f"training, {said}",
        f"held out, {said}",
        "against AdamW",
        "held out, right",
        "when AdamW is done",
        "step, ms",
        "update, ms",
    ]
    lines = [head]
    for name in CONTENDERS:
        found = [result[name] for result in results]
        sound = [(own, result["AdamW"]) for own, result in zip(found, results, strict=True) if own["loss"] is not None]
        lost = "" if len(sound) == len(found) else f", {len(found) - len(sound)} of {len(found)} astray"
        done = PROBLEMS[problem].updates * update_ms(speed, problem, "AdamW") / update_ms(speed, problem, name)
        lines.append(
            [
                name,
                f"{found[0]['lr']:g}{lost}",
                spread([own["training_loss"] / unit for own, _ in sound], form),
                spread([own["loss"] / unit for own, _ in sound], form),
                spread([(own["loss"] - other["loss"]) / unit for own, other in sound], f"+{form}"),
                spread([100 * own["right"] for own, _ in sound], ".1f") + " %",
                spread([loss_at(own["curve"], done) / unit for own, _ in sound], form),
                f"{step_ms(speed, problem, name):.2f}",
                f"{update_ms(speed, problem, name):.1f}",
            ]
        )
    return lines


def main() -> None:
    """Write the tables into README.md and draw optimizers.png."""
    tuning, speed = (json.loads(path.read_text()) for path in (TUNING, HERE / "speed.json"))
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    for problem, row in zip(PROBLEMS, figure.subplots(2, 2, sharey="row"), strict=True):
        said, unit, form = UNITS[problem]
        table_put(HERE / "README.md", tried(tuning["trials"][problem], unit, form), f"{problem} tuning")
        table_put(HERE / "README.md", compared(problem, speed), problem)
        for name in CONTENDERS:
            curves = [[point for point in result[name]["curve"] if point[0]] for result in results_of(problem)]
            updates = [update for update, *_ in curves[0]]
            losses = [[point[1] / unit for point in points] for points in zip(*curves, strict=True)]
            for axes, each in zip(row, (1.0, update_ms(speed, problem, name) / 1e3), strict=True):
                places = [each * update for update in updates]
                axes.plot(places, [statistics.mean(found) for found in losses], color=COLOURS[name], label=name)
                axes.fill_between(places, list(map(min, losses)), list(map(max, losses)), color=COLOURS[name], alpha=0.12)
        row[0].set_ylabel(f"held out, {said} (band: seeds)")
        row[0].set_title({"language": "Source code", "digits": "Digits"}[problem], loc="left", fontsize=11)
        row[0].set_xlabel("updates")
        row[1].set_xlabel("seconds, one thread")
        row[0].legend(frameon=False, fontsize=8)
        if problem == "digits":
            row[0].set_yscale("log")
    figure_kept(HERE / "optimizers.png", figure)


if __name__ == "__main__":
    main()
