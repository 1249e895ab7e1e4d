"""Bits per byte on files of source code that were never trained on, by the place in the file: with a memory, and without.

python -m recipes.code_by_position.run --seed 0 --out recipes/code_by_position/seed-0
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from retain.evaluation import MemoryReset, WindowCut, WritesOff, perplexity
from retain.tasks import Book, Corpus, LanguageModelling
from retain.tasks.corpus import library
from retain.training import Lesson, Reading, Run, Schedule

from ..evidence import CONSOLE, keep, trained

HELD_OUT = ("asyncio", "email", "http", "idlelib", "lib2to3", "tkinter", "xml", "unittest")
READ = 1 << 14
PLACES = (1, 256, 512, 1024, 2048, 4096, 8192, READ)
MEMORY = {"preset": "delta_net", "heads": 2, "gates": {"lr": 0.5}, "projections": {"start": "recall"}, "output": {"gate": None}}
MODELS: dict[str, dict[str, Any]] = {
    "MAG": {"block": "mag", "memory": MEMORY},
    "sliding window": {"block": "sliding_window", "intermediate_size": 544},
}
SIZES = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "window": 64, "gating": "add"}


def run_of(name: str, hay: Book, seed: int) -> Run:
    """Stretches of 4,096 bytes, read in pieces of 512 from one to the next of which memories go on."""
    return Run(
        model={**SIZES, **MODELS[name]},
        lessons=(Lesson(tasks=(LanguageModelling(book=hay, length=4097),), steps=500),),
        reading=Reading(rows=8, segment=512),
        schedule=Schedule(lr=3e-3, gate_lr=6e-3),
        seed=seed,
    )


def files() -> dict[str, bytes]:
    """Every third of the held-out files that are long enough, each from its first byte."""
    paths = [path for name in HELD_OUT for path in sorted((library() / name).rglob("*.py")) if path.stat().st_size >= READ]
    return {str(path.relative_to(library())): path.read_bytes()[:READ] for path in paths[::3]}


def main(
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    seed: Annotated[int, typer.Option(help="Of weights and samples.")] = 0,
    work: Annotated[Path | None, typer.Option(help="Folder for the trainings, which then go on where they stopped.")] = None,
) -> None:
    """Train two models of one size on the library's packages and read whole files of the packages held out."""
    begun = time.perf_counter()
    train, _ = Corpus.code().split(held_out=HELD_OUT)
    hay, held_out = train.book(), files()
    texts = torch.stack([torch.frombuffer(bytearray(text), dtype=torch.uint8).long() for text in held_out.values()])
    results: dict[str, Any] = {"seed": seed, "files": list(held_out), "edges": PLACES, "models": {}}
    with tempfile.TemporaryDirectory() as scratch:
        for name in MODELS:
            model, about = trained(run_of(name, hay, seed), (work or Path(scratch)) / name.replace(" ", "-"), name)
            controls = (WindowCut(),) if name == "sliding window" else (WritesOff(), MemoryReset(), WindowCut())
            found = perplexity(model, texts, PLACES, controls=controls, chunk=256, title=name)
            results["models"][name] = {"training": about, "bits": found.bits}
            CONSOLE.print(found.markdown())
            keep(out / "code.json", results, begun)


if __name__ == "__main__":
    typer.run(main)
