"""Loss against the chunk of four memories: language modelling on source code.

python -m recipes.chunks.run --seed 0 --out recipes/chunks/seed-0
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from retain.evaluation import WritesOff, perplexity
from retain.tasks import Corpus, LanguageModelling
from retain.training import Lesson, Reading, Run, Schedule

from ..evidence import CONSOLE, keep, trained

HELD_OUT = ("asyncio", "email", "http", "idlelib", "lib2to3", "tkinter")
CHUNKS = (1, 4, 16, 64)
TRAINED, PIECE, LONGEST, TEXTS, UPDATES = 1024, 128, 2048, 8, 100
PLACES = (1, 256, 1024, 2048)
GATE_RATE = 3e-3
MEMORIES: dict[str, dict[str, Any]] = {
    "Titans": {"preset": "titans", "gates": {"lr": 0.3}},
    "Moneta": {"preset": "moneta", "rule": {"exposed": "boundary"}, "gates": {"lr": 0.3, "rate": 0.004}},
    "Yaad": {"preset": "yaad", "rule": {"threshold": 16.0}, "gates": {"lr": 0.3}},
    "Memora": {"preset": "memora", "rule": {"exposed": "boundary"}, "gates": {"lr": 0.3}},
}


def model_of(name: str, chunk: int) -> dict[str, Any]:
    """One LMM block with a memory of width 32, whose gradients are taken at the last of its boundaries, a chunk apart."""
    chosen = MEMORIES[name]
    memory = {
        **chosen,
        "rule": {**chosen.get("rule", {}), "update_every": chunk},
        "projections": {"start": "recall"},
        "output": {"gate": None},
        "head_dim": 32,
    }
    return {"block": "lmm", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "persistent_tokens": 0, "memory": memory}


def main(
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    seed: Annotated[int, typer.Option(help="Of weights and samples.")] = 0,
    work: Annotated[Path | None, typer.Option(help="Folder for the trainings, which then go on where they stopped.")] = None,
) -> None:
    """Train every memory with every chunk on the same code, and read held-out code of twice the length that was trained."""
    begun, results = time.perf_counter(), {"seed": seed, "cells": []}
    train, test = Corpus.code().split(held_out=HELD_OUT)
    hay, held_out = train.book(), test.book()
    texts = torch.stack([held_out.window(len(held_out) * i // TEXTS, LONGEST).long() for i in range(TEXTS)])
    with tempfile.TemporaryDirectory() as scratch:
        for chunk in reversed(CHUNKS):
            for name in MEMORIES:
                run = Run(
                    model=model_of(name, chunk),
                    lessons=(Lesson(tasks=(LanguageModelling(book=hay, length=TRAINED + 1),), steps=UPDATES),),
                    reading=Reading(rows=16, segment=PIECE),
                    schedule=Schedule(gate_lr=GATE_RATE),
                    seed=seed,
                )
                model, about = trained(run, (work or Path(scratch)) / f"{name}-{chunk}", f"{name}, chunk {chunk}")
                bits = perplexity(model, texts, PLACES, controls=(WritesOff(),), chunk=PIECE, title=f"{name}, chunk {chunk}")
                results["cells"].append({"memory": name, "chunk": chunk, "training": about, "bits": bits.bits, "edges": bits.edges})
                CONSOLE.print(" ", name, chunk, *(f"{reading} {bits.mean(reading):.3f} " for reading in bits.bits))
                keep(out / "chunks.json", results, begun)


if __name__ == "__main__":
    typer.run(main)
