"""Two new languages in one stream, without replay: what is left of the first, by the number of levels that learn while the model reads.

python -m recipes.two_languages.run --seed 0 --out recipes/two_languages/seed-0
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from retain.evaluation import CONTROLS, recall
from retain.tasks import Translation
from retain.training import Lesson, Reading, Run, Schedule
from retain.training.describe import described

from ..evidence import CONSOLE, keep, trained

WORDS, QUERIES, SAMPLES = 32, 16, 48
PERIODS: dict[str, tuple[int, ...]] = {
    "none": (),
    "16": (16,),
    "64": (64,),
    "16, 64": (16, 64),
    "16, 32, 64": (16, 32, 64),
    "16, as large as three": (16,),
    "16, 32, 64, as large as one": (16, 32, 64),
}
"""Of the levels, by what the tables call them."""
INNER = {"16, as large as three": 144, "16, 32, 64, as large as one": 16}
"""Width inside each level where it is not 48."""
RATE = 0.1
"""With which all levels of a block together begin to learn."""
BLOCKS: dict[str, dict[str, Any]] = {
    "attention": {"block": "sliding_window", "window": 8, "num_attention_heads": 4},
    "hope": {"block": "hope", "self_modifying": {"heads": 1, "rule": {"chunk": 16}}},
}
LEVELS = {"attention": tuple(PERIODS), "hope": ("none", "16", "16, 32, 64")}
CELLS = {"A, after A": (1, 0), "A, after B": (2, 0), "B, after A": (2, 1), "A, after B, C, D": (4, 0), "D, after A, B, C": (4, 3)}
"""How many languages are read, and which is asked."""


def languages(count: int, asked: int) -> Translation:
    """So many languages of 64 tokens each, and 16 words of one of them."""
    return Translation(languages=count, asked=asked, words=WORDS, queries=QUERIES)


def run_of(block: str, levels: str, seed: int) -> Run:
    """One block, first taught single languages and then one or two."""
    periods = PERIODS[levels]
    model = {
        **BLOCKS[block],
        "hidden_size": 32,
        "intermediate_size": INNER.get(levels, 48),
        "num_hidden_layers": 1,
        "persistent_tokens": 0,
        "levels": [{"every": period, "options": {"lr": RATE / len(periods)}, "learnt_rate": True} for period in periods],
    }
    lessons = (Lesson(tasks=(languages(1, 0),), steps=40), Lesson(tasks=(languages(1, 0), languages(2, 0), languages(2, 1)), steps=80))
    return Run(model=model, lessons=lessons, reading=Reading(rows=16), schedule=Schedule(), seed=seed)


def main(
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    seed: Annotated[int, typer.Option(help="Of weights and samples.")] = 0,
    work: Annotated[Path | None, typer.Option(help="Folder for the trainings, which then go on where they stopped.")] = None,
    only: Annotated[str | None, typer.Option(help="One block: attention or hope.")] = None,
) -> None:
    """Train each block with each choice of levels, and ask it for languages that it has never met."""
    with tempfile.TemporaryDirectory() as scratch:
        for block in BLOCKS:
            if only not in (None, block):
                continue
            path = out / f"{block}.json"
            results = json.loads(path.read_text()) if path.exists() else {"seed": seed, "levels": {}}
            begun = time.perf_counter() - results.get("seconds", 0)
            for levels in LEVELS[block]:
                run, name = run_of(block, levels, seed), f"{block}, levels {levels}"
                if results["levels"].get(levels, {}).get("training", {}).get("run") == json.loads(json.dumps(described(run))):
                    continue
                model, about = trained(run, (work or Path(scratch)) / block / levels.replace(", ", "-"), name)
                rates = [float(weight.detach().exp()) for path, weight in model.named_parameters() if path.endswith("log_rate")]
                rows = []
                for i, (cell, (count, asked)) in enumerate(CELLS.items()):
                    first = (seed << 20) + 1000 * i
                    found = recall(model, languages(count, asked), range(first, first + SAMPLES), controls=CONTROLS, batch=SAMPLES, chunk=512)
                    rows += [{"cell": cell, "reading": row.reading, "right": row.exact.right, "asked": row.exact.asked} for row in found.rows()]
                    CONSOLE.print(" ", cell, *(f"{row.reading} {row.exact}  " for row in found.rows()))
                results["levels"][levels] = {"training": about, "rates": rates, "rows": rows}
                keep(path, results, begun)


if __name__ == "__main__":
    typer.run(main)
