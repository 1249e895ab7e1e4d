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
from retain.tasks import Book, Corpus, LanguageModelling
from retain.training import Lesson, Reading, Run, Schedule

from ..evidence import CONSOLE, keep, steady

HELD_OUT = ("asyncio", "email", "http", "idlelib", "lib2to3", "tkinter")
CHUNKS = (1, 4, 16, 64)
TRAINED, PIECE, LONGEST, TEXTS, UPDATES = 1024, 128, 2048, 8, 100
PLACES = (1, 256, 1024, 2048)
GATE_RATE = 3e-3
STARTS = (0.3, 0.1, 0.03)
"""Shares of the largest inner rate at which gates start: the first with which training stays finite."""
MEMORIES: dict[str, dict[str, Any]] = {
    "Titans": {"preset": "titans"},
    "Moneta": {"preset": "moneta", "rule": {"exposed": "boundary"}, "gates": {"rate": 0.004}},
    "Yaad": {"preset": "yaad", "rule": {"threshold": 16.0}},
    "Memora": {"preset": "memora", "rule": {"exposed": "boundary"}},
}


def model_of(name: str, chunk: int, start: float = STARTS[0]) -> dict[str, Any]:
    """One LMM block with a memory of width 32, whose gradients are taken at the last of its boundaries, a chunk apart."""
    chosen = MEMORIES[name]
    memory = {
        **chosen,
        "rule": {**chosen.get("rule", {}), "update_every": chunk},
        "gates": {"rate": 0.015, "lr": start, **chosen.get("gates", {})},
        "projections": {"start": "recall"},
        "output": {"gate": None},
        "head_dim": 32,
    }
    return {"block": "lmm", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "persistent_tokens": 0, "memory": memory}


def runs_of(name: str, chunk: int, hay: Book, seed: int) -> dict[str, Run]:
    """The training of a memory: where it goes astray, it begins anew with gates that start further shut."""
    return {
        f"gates at {start:g}": Run(
            model=model_of(name, chunk, start),
            lessons=(Lesson(tasks=(LanguageModelling(book=hay, length=TRAINED + 1),), steps=UPDATES),),
            reading=Reading(rows=16, segment=PIECE),
            schedule=Schedule(gate_lr=GATE_RATE),
            seed=seed,
        )
        for start in STARTS
    }


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
                model, about = steady(runs_of(name, chunk, hay, seed), (work or Path(scratch)) / f"{name}-{chunk}", f"{name}, chunk {chunk}")
                bits = perplexity(model, texts, PLACES, controls=(WritesOff(),), chunk=PIECE, title=f"{name}, chunk {chunk}")
                results["cells"].append({"memory": name, "chunk": chunk, "training": about, "bits": bits.bits, "edges": bits.edges})
                CONSOLE.print(" ", name, chunk, *(f"{reading} {bits.mean(reading):.3f} " for reading in bits.bits))
                keep(out / "chunks.json", results, begun)


if __name__ == "__main__":
    typer.run(main)
