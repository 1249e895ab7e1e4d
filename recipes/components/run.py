"""What each part of Titans' memory is worth, and its depth: language modelling on source code.

python -m recipes.components.run --seed 0 --out recipes/components/seed-0
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from retain.evaluation import WritesOff, perplexity
from retain.tasks import Book, Corpus, LanguageModelling
from retain.training import Lesson, Reading, Run, Schedule

from ..evidence import CONSOLE, keep, steady

HELD_OUT = ("asyncio", "email", "http", "idlelib", "lib2to3", "tkinter")
TRAINED, PIECE, LONGEST, TEXTS = 4096, 512, 8192, 8
PLACES = (1, 512, 1024, 2048, 4096, 8192)
UPDATES = 300
GATE_RATES = (6e-3, 3e-3, 1.5e-3)
"""Of the outer learning of gates: the first with which training stays finite."""
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "depth 1 (linear memory)": {"rule": {"depth": 1}},
    "depth 3": {"rule": {"depth": 3}},
    "depth 4": {"rule": {"depth": 4}},
    "plain start": {"projections": {"start": "plain"}},
    "no convolution": {"projections": {"conv": 1}},
    "no momentum": {"change": {"learner": "Gradient"}},
    "no weight decay": {"change": {"retention": "Keep"}},
    "no persistent tokens": {},
}


def model_of(name: str) -> dict[str, Any]:
    """Two LMM blocks with Titans' memory, the default depth two, and one thing changed."""
    variant = VARIANTS[name]
    memory = {
        "preset": "titans",
        "projections": {"start": "recall"},
        **variant,
        "rule": {"update_every": 32, "expansion": 2.0, **variant.get("rule", {})},
    }
    persistent = 0 if name == "no persistent tokens" else 4
    return {
        "block": "lmm",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "persistent_tokens": persistent,
        "memory": memory,
    }


def runs_of(name: str, hay: Book, seed: int) -> dict[str, Run]:
    """The training of a variant: where it goes astray, it begins anew with the next lower rate of the gates."""
    return {
        f"gates at {gate_lr:g}": Run(
            model=model_of(name),
            lessons=(Lesson(tasks=(LanguageModelling(book=hay, length=TRAINED + 1),), steps=UPDATES),),
            reading=Reading(rows=8, segment=PIECE),
            schedule=Schedule(gate_lr=gate_lr),
            seed=seed,
        )
        for gate_lr in GATE_RATES
    }


def main(
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    seed: Annotated[int, typer.Option(help="Of weights and samples.")] = 0,
    work: Annotated[Path | None, typer.Option(help="Folder for the trainings, which then go on where they stopped.")] = None,
) -> None:
    """Train every variant on code whose pieces hand the memory on, and read held-out code of twice the length that was trained."""
    begun, results = time.perf_counter(), {"seed": seed, "variants": {}}
    train, test = Corpus.code().split(held_out=HELD_OUT)
    hay, held_out = train.book(), test.book()
    texts = torch.stack([held_out.window(len(held_out) * i // TEXTS, LONGEST).long() for i in range(TEXTS)])
    with tempfile.TemporaryDirectory() as scratch:
        for name in VARIANTS:
            model, about = steady(runs_of(name, hay, seed), (work or Path(scratch)) / name.split(" (")[0].replace(" ", "-"), name)
            bits = perplexity(model, texts, PLACES, controls=(WritesOff(),), chunk=PIECE, title=name)
            results["variants"][name] = {"training": about, "bits": bits.bits, "edges": bits.edges}
            CONSOLE.print(" ", name, *(f"{reading} {bits.mean(reading):.3f} " for reading in bits.bits))
            keep(out / "components.json", results, begun)


if __name__ == "__main__":
    typer.run(main)
