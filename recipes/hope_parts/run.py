"""What each part of Hope is worth: language modelling on source code.

python -m recipes.hope_parts.run --seed 0 --out recipes/hope_parts/seed-0
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from retain.evaluation import WritesOff, perplexity
from retain.tasks import Book, Corpus, LanguageModelling
from retain.training import Lesson, Reading, Run, Schedule
from retain.training.describe import described

from ..evidence import CONSOLE, keep, steady

HELD_OUT = ("asyncio", "email", "http", "idlelib", "lib2to3", "tkinter")
TRAINED, PIECE, LONGEST, TEXTS = 2048, 256, 4096, 4
PLACES = (1, 512, 1024, 2048, 4096)
UPDATES = 80
RATES = (1.2e-2, 6e-3, 3e-3)
"""Of the outer learning: the first with which training stays finite."""
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "no DGD": {"rule": {"update": "gd"}},
    "no momentum": {"rule": {"momentum": None}},
    "no weight decay": {"rule": {"decay": False}},
    "no CMS": {"levels": []},
    "k stands still": {"adaptive": ["eta", "alpha", "v", "memory"]},
    "v stands still": {"adaptive": ["eta", "alpha", "k", "memory"]},
    "only memory is written": {"adaptive": ["memory"]},
    "q is made, too": {"adaptive": ["eta", "alpha", "k", "v", "q", "memory"]},
}


def model_of(name: str) -> dict[str, Any]:
    """A block of Hope with a self-modifying memory and two levels, and one thing changed. Without levels the token-wise half is as large as both."""
    variant = VARIANTS[name]
    levels = variant.get("levels", [{"every": every, "options": {"lr": 1e-2}, "learnt_rate": True} for every in (128, 512)])
    memory: dict[str, Any] = {"heads": 2, "rule": {"chunk": 64, "momentum": 0.9, **variant.get("rule", {})}}
    if "adaptive" in variant:
        memory["adaptive"] = variant["adaptive"]
    return {
        "block": "hope",
        "hidden_size": 64,
        "intermediate_size": 96 if levels else 192,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "persistent_tokens": 0,
        "self_modifying": memory,
        "levels": levels,
        "through_levels": False,
    }


def runs_of(name: str, hay: Book, seed: int) -> dict[str, Run]:
    """The training of a variant, at the rates that are tried in turn."""
    return {
        f"rate {rate:g}": Run(
            model=model_of(name),
            lessons=(Lesson(tasks=(LanguageModelling(book=hay, length=TRAINED + 1),), steps=UPDATES),),
            reading=Reading(rows=8, segment=PIECE),
            schedule=Schedule(lr=rate),
            seed=seed,
        )
        for rate in RATES
    }


def main(
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    seed: Annotated[int, typer.Option(help="Of weights and samples.")] = 0,
    work: Annotated[Path | None, typer.Option(help="Folder for the trainings, which then go on where they stopped.")] = None,
) -> None:
    """Train every variant on code whose pieces hand what was written on, and read held-out code of twice the length that was trained."""
    path = out / "parts.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"seed": seed, "variants": {}}
    begun = time.perf_counter() - results.get("seconds", 0)
    train, test = Corpus.code().split(held_out=HELD_OUT)
    hay, held_out = train.book(), test.book()
    texts = torch.stack([held_out.window(len(held_out) * i // TEXTS, LONGEST).long() for i in range(TEXTS)])
    with tempfile.TemporaryDirectory() as scratch:
        for name in VARIANTS:
            runs = runs_of(name, hay, seed)
            if results["variants"].get(name, {}).get("training", {}).get("run") in [json.loads(json.dumps(described(run))) for run in runs.values()]:
                continue
            model, about = steady(runs, (work or Path(scratch)) / name.replace(" ", "-"), name)
            bits = perplexity(model, texts, PLACES, controls=(WritesOff(),), chunk=PIECE, title=name)
            results["variants"][name] = {"training": about, "bits": bits.bits, "edges": bits.edges}
            CONSOLE.print(" ", name, *(f"{reading} {bits.mean(reading):.3f} " for reading in bits.bits))
            keep(path, results, begun)


if __name__ == "__main__":
    typer.run(main)
