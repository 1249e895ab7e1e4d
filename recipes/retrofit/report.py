"""The tables and the figure of this folder's page, from the results that lie beside it.

python -m recipes.retrofit.report
"""

from __future__ import annotations

import json
from math import exp
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from retain.evaluation.retrofit.readings import CUT, FOREIGN, MEMORY, OFF, READINGS
from retain.training.retrofit.recipes import RECIPES

from ..evidence import figure_kept, spread, table_put

HERE = Path(__file__).parent
GUIDE = HERE.parents[1] / "docs" / "retrofit.md"


def main() -> None:
    """Put the tables into README.md and the guide, and draw recall against what was trained on."""
    found = {folder.name: _results(folder) for folder in sorted(HERE.iterdir()) if folder.is_dir() and any(folder.glob("seed-*.json"))}
    table_put(
        HERE / "README.md",
        [
            ["trained on", "asked", "questions a seed", *READINGS],
            *(row for name, seeds in found.items() if name in RECIPES for row in _rows(name, seeds)),
        ],
    )
    told = [_told(name, exam, seeds) for name, seeds in found.items() if name in RECIPES for exam in _exams(seeds)]
    table_put(GUIDE, [["trained on", "asked", "right by memory", "most by any other: writes off, another page's memory, base"], *told], "evidence")
    for name, exam in (("wordings", "pairs-31"), ("held-out wordings", "formats")):
        groups = _grouped([seed["exams"][exam] for seed in found.get("recall", []) if exam in seed["exams"]])
        if groups:
            table_put(HERE / "README.md", [["line", "questions", *READINGS], *groups], name)
    costs = [_cost(seed["seed"], row) for seed in found.get("code", []) for row in seed["exams"].get("text-code", {"rows": []})["rows"]]
    if costs:
        table_put(HERE / "README.md", [["seed", "reading", "nats a token", "saved of writes off's"], *costs], "code")
    variants = {name: seeds for name, seeds in found.items() if name not in RECIPES}
    if variants:
        heads = ["variant", "layers", "seeds", "updates", "parameters", "held-out answers right", "writes off", "memory of another document"]
        table_put(HERE / "README.md", [heads, *(_variant(name, seeds) for name, seeds in variants.items())], "variants")
    table_put(
        HERE / "README.md",
        [
            ["trained on", "updates", "parameters", "memory empty", "memory full"],
            *(_kept(name, seeds) for name, seeds in found.items() if name in RECIPES),
        ],
        "preservation",
    )
    places = json.loads((HERE / "places.json").read_text())["rows"]
    kernels, layers = list(dict.fromkeys(row["lags"] for row in places)), list(dict.fromkeys(row["layer"] for row in places))
    cells = {(row["begins"], row["lags"], row["layer"]): f"{row['right'] / row['asked']:.2f}" for row in places}
    beginnings = list(dict.fromkeys(row["begins"] for row in places))
    lines = [[begins, lags, *(cells[begins, lags, layer] for layer in layers)] for begins in beginnings for lags in kernels]
    table_put(HERE / "README.md", [["stretches begin with", "kernel", *(f"layer {layer}" for layer in layers)], *lines], "places")
    lengths = json.loads((HERE / "lengths.json").read_text())["tokens"]
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, seeds in found.items():
        for i, seed in enumerate(seeds if name in RECIPES and _exams(seeds) else []):
            points = seed["curve"]
            axes.plot(
                [_tokens(seed["training"]["run"], lengths[name], p["step"]) / 1000 for p in points],
                [p["exact"] for p in points],
                color=f"C{list(found).index(name)}",
                label=name if not i else None,
                marker=".",
            )
    axes.set(xlabel="thousands of tokens trained on", ylabel="held-out answers right", ylim=(0, 1.02))
    axes.legend(frameon=False)
    figure_kept(HERE / "recall.png", figure)


def _results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("seed-*.json"))]


def _tokens(run: dict[str, Any], lengths: list[float], step: int) -> float:
    """How many tokens so many updates have read and asked, by the mean lengths of pages in each lesson."""
    total = 0.0
    for lesson, length in zip(run["lessons"], lengths, strict=True):
        total += min(step, lesson["steps"]) * run["reading"]["rows"] * length
        step = max(0, step - lesson["steps"])
    return total


def _rows(name: str, seeds: list[dict[str, Any]]) -> list[list[str]]:
    rows = []
    for exam in _exams(seeds):
        shares = {
            reading: [s for seed in seeds if exam in seed["exams"] for s in [_share(seed["exams"][exam], reading)] if s is not None]
            for reading in READINGS
        }
        cells = [
            spread(shares[reading]) if len(shares[reading]) > 1 else f"{shares[reading][0]:.2f}" if shares[reading] else "-" for reading in READINGS
        ]
        rows.append([name, exam, str(_asked(seeds[0]["exams"][exam])), *cells])
    return rows


def _told(name: str, exam: str, seeds: list[dict[str, Any]]) -> list[str]:
    """In short: what the memory knows, and the most that is known without it."""
    asked = [seed["exams"][exam] for seed in seeds if exam in seed["exams"]]
    others = [share for each in asked for reading in (CUT, OFF, FOREIGN) if (share := _share(each, reading)) is not None]
    return [name, exam, spread([share for each in asked if (share := _share(each, MEMORY)) is not None]), f"{max(others):.2f}"]


def _exams(seeds: list[dict[str, Any]]) -> list[str]:
    """Those whose answers are right or wrong."""
    return [name for name, result in seeds[0]["exams"].items() if "exact" in result["rows"][0]]


def _share(exam: dict[str, Any], reading: str) -> float | None:
    right, asked = next(row["exact"] for row in exam["rows"] if row["reading"] == reading)
    return right / asked if asked else None


def _grouped(exams: list[dict[str, Any]]) -> list[list[str]]:
    """Of each group of questions, the answers of all seeds together that are right."""
    groups: dict[str, dict[str, list[int]]] = {}
    for row in (row for exam in exams for row in exam["rows"][len(READINGS) :]):
        counts = groups.setdefault(row["group"], {name: [0, 0] for name in READINGS})[row["reading"]]
        counts[0] += row["exact"][0]
        counts[1] += row["exact"][1]
    return [
        [f"`{group.strip().replace('|', chr(92) + '|')}`", str(counts[MEMORY][1]), *(f"{a / b:.2f}" if b else "-" for a, b in counts.values())]
        for group, counts in groups.items()
    ]


def _cost(seed: int, row: dict[str, Any]) -> list[str]:
    """What the texts behind a cut cost in one reading; the number behind the sign is the standard error over texts."""
    return [str(seed), row["reading"], *(f"{row[kind][0]:.3f} ± {row[kind][1]:.3f}" if row["texts"] else "-" for kind in ("nats", "saved"))]


def _variant(name: str, seeds: list[dict[str, Any]]) -> list[str]:
    """One line of what is changed about one recipe."""
    training, exams = seeds[0]["training"], [seed["exams"]["words-31"] for seed in seeds]
    shares = [[share for exam in exams if (share := _share(exam, reading)) is not None] for reading in (MEMORY, OFF, FOREIGN)]
    layers = training["layers"]
    where = ", ".join(map(str, layers)) if len(layers) < 5 else f"all {len(layers)}"
    return [name, where, str(len(seeds)), str(training["updates"]), f"{training['parameters']:,}", *map(spread, shares)]


def _asked(exam: dict[str, Any]) -> int:
    return max(row["exact"][1] for row in exam["rows"])


def _kept(name: str, seeds: list[dict[str, Any]]) -> list[str]:
    ratios = {which: [_ratio(seed["preservation"], which) for seed in seeds] for which in ("empty memory", "full memory")}
    training = seeds[0]["training"]
    return [
        name,
        str(training["updates"]),
        f"{training['parameters']:,}",
        *(spread(ratios[which], ".4f") for which in ("empty memory", "full memory")),
    ]


def _ratio(preservation: dict[str, Any], which: str) -> float:
    """Perplexity over that of the base."""
    nats = preservation["nats"]
    return exp((sum(nats[which]) - sum(nats["base"])) / len(nats["base"]))


if __name__ == "__main__":
    main()
