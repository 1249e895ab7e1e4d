"""Recall by distance: what a model still knows of pairs that it read long before attention's window.

python -m recipes.recall_by_distance.run --seed 0 --out recipes/recall_by_distance/seed-0
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from retain.evaluation import recall
from retain.tasks import MQAR
from retain.training import Lesson, Reading, Run

from ..evidence import CONSOLE, keep, trained

WINDOW = 64
DISTANCES = (8, 32, 128, 512, 1024, 2048, 4096)
TRAINED = (8, 64, 256)
SAMPLES = 64
MODELS: dict[str, dict[str, Any]] = {
    "MAG": {"block": "mag"},
    "MAC": {"block": "mac", "attention_start": "self"},
    "LMM": {"block": "lmm", "intermediate_size": 264},
    "sliding window": {"block": "sliding_window", "intermediate_size": 288},
}
MEMORY = {"preset": "delta_net", "gates": {"lr": 0.5}, "projections": {"start": "recall"}, "output": {"gate": None}}
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "window": WINDOW, "gating": "add"}


def task(distance: int) -> MQAR:
    """Eight pairs, ``distance`` blank tokens, and the eight keys again in a drawn order with a few blanks between them."""
    return MQAR(pairs=8, length=16 + distance + 24, gap=distance)


def run_of(name: str, seed: int) -> Run:
    """The same lessons for all: pairs within the window until they are recalled, then all training distances."""
    near = Lesson(tasks=(task(TRAINED[0]),), steps=2000, promote_at=0.995)
    all_of_them = Lesson(tasks=tuple(map(task, TRAINED)), steps=200)
    model = {**SIZES, "memory": None if name == "sliding window" else MEMORY, **MODELS[name]}
    return Run(model=model, lessons=(near, all_of_them), reading=Reading(rows=32), seed=seed)


def main(
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    seed: Annotated[int, typer.Option(help="Of weights and samples.")] = 0,
    work: Annotated[Path | None, typer.Option(help="Folder for the trainings, which then go on where they stopped.")] = None,
) -> None:
    """Train four models of one size and ask each at every distance, with its controls."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        for name in MODELS:
            model, about = trained(run_of(name, seed), (work or Path(scratch)) / name.replace(" ", "-"), name)
            rows = []
            for i, distance in enumerate(DISTANCES):
                seeds = range((seed * len(DISTANCES) + i) * SAMPLES, (seed * len(DISTANCES) + i + 1) * SAMPLES)
                found = recall(model, task(distance), seeds, by="pairs", batch=SAMPLES, chunk=128, title=f"{name}, {distance} tokens")
                for row in found.rows():
                    rows.append({"distance": distance, "reading": row.reading, "right": row.exact.right, "asked": row.exact.asked})
                CONSOLE.print("  ", distance, *(f"{row.reading} {row.exact}  " for row in found.rows()))
            keep(out / f"{name.replace(' ', '-')}.json", {"name": name, "seed": seed, "training": about, "rows": rows}, begun)


if __name__ == "__main__":
    typer.run(main)
