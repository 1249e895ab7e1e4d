"""Needles in up to a million bytes of real text, read with a state of constant size.

python -m recipes.needles.run --seed 0 --out recipes/needles/seed-0
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from retain.evaluation import AbstractControl, MemoryReset, WindowCut, WritesOff, cost, recall
from retain.models import RetainForCausalLM
from retain.tasks import Book, Corpus, Distractors, Needle
from retain.tasks.needle import Kind
from retain.training import Lesson, Reading, Run
from retain.training.describe import described

from ..evidence import CONSOLE, keep, trained

HELD_OUT = ("asyncio", "email", "http", "idlelib", "lib2to3", "tkinter")
KINDS: tuple[Kind, ...] = ("passkey", "number", "word")
LENGTHS = {1 << 10: 32, 1 << 12: 32, 1 << 14: 32, 1 << 16: 16, 1 << 18: 8, 1 << 20: 8}
LOOKALIKES = 2.0
WRITES_OFF_UP_TO = 1 << 14
TOKENS_AT_ONCE = 4096
MODEL = {
    "block": ["convolution", "convolution", "lmm"],
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "window": 16,
    "persistent_tokens": 0,
    "memory": {
        "preset": "delta_net",
        "head_dim": 256,
        "gates": {"curve": "hard", "lr": 0.5},
        "projections": {"start": "recall", "conv": 20},
        "output": {"gate": None},
    },
    "write_cost": 8.0,
    "write_margin": 4.0,
}


@dataclass(frozen=True)
class Case:
    """What is hidden: one key, eight of which all are asked, or one that is bound three times."""

    name: str
    kind: Kind
    needles: int = 1
    rebound: int = 0

    def task(self, hay: Book, length: int) -> Needle:
        """The case in a haystack of ``length`` bytes."""
        return Needle(
            kind=self.kind,
            needles=self.needles,
            questions=self.needles,
            rebound=self.rebound,
            length=length,
            haystack=hay,
            distractors=Distractors(lookalikes=LOOKALIKES),
        )


CASES = (
    *(Case(kind, kind) for kind in KINDS),
    Case("eight passkeys", "passkey", needles=8),
    Case("eight words", "word", needles=8),
    Case("rebound passkey", "passkey", rebound=2),
)


def hays() -> tuple[Book, Book]:
    """The source of the standard library: packages that are trained on, and packages that are held out."""
    train, test = Corpus.code().split(held_out=HELD_OUT)
    return train.book(), test.book()


def run_of(hay: Book, seed: int) -> Run:
    """Short haystacks with one needle, then four, then eight, then long ones; writing costs more from lesson to lesson."""

    def some(needles: int, length: int, lookalikes: float, rebound: tuple[int, ...] = (0, 2)) -> tuple[Needle, ...]:
        return tuple(
            Needle(
                kind=kind,
                needles=needles,
                questions=needles,
                rebound=again,
                length=length,
                haystack=hay,
                distractors=Distractors(lookalikes=lookalikes),
            )
            for kind in KINDS
            for again in rebound
        )

    lessons = (
        Lesson(tasks=some(1, 192, 0.0, rebound=(0,)), steps=100, promote_at=0.97, write_cost=0.025),
        Lesson(tasks=some(4, 896, 6.0), steps=100, promote_at=0.97, write_cost=0.125),
        Lesson(tasks=some(8, 1536, 6.0, rebound=(0,)) + some(1, 1024, 6.0), steps=250, write_cost=0.5),
        Lesson(tasks=some(8, 1536, 6.0, rebound=(0,)) + some(1, 2048, 6.0), steps=350),
    )
    return Run(model=MODEL, lessons=lessons, reading=Reading(rows=8), seed=seed)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is read with one set of samples, and what of it is written down."""

    facts: dict[str, Any]
    task: Needle
    samples: int
    controls: tuple[AbstractControl, ...]


def cells(hay: Book) -> list[Cell]:
    """Every case at every length, then what is harder: hay of another kind, and lines with a misspelt mark."""
    out = []
    for length, samples in LENGTHS.items():
        controls = (WritesOff(), MemoryReset(), WindowCut()) if length <= WRITES_OFF_UP_TO else (MemoryReset(), WindowCut())
        for case in CASES:
            out.append(Cell(facts={"case": case.name, "length": length}, task=case.task(hay, length), samples=samples, controls=controls))
    manual, length = Corpus.documentation().book(), 1 << 16
    for case in CASES[:3]:
        others: list[tuple[dict[str, Any], Needle]] = [({"hay": "English documentation"}, case.task(manual, length))]
        for misspelt in (1, 4, 16):
            distractors = Distractors(lookalikes=LOOKALIKES, misspelt=1000 * (misspelt + 0.25) / length)
            others.append(({"misspelt": misspelt}, replace(case.task(hay, length), distractors=distractors)))
        out += [Cell(facts={"case": case.name, "length": length, **more}, task=task, samples=16, controls=(WindowCut(),)) for more, task in others]
    return out


def named(facts: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a cell from the others."""
    return tuple(facts.get(name) for name in ("case", "length", "hay", "misspelt"))


def begun_before(out: Path, run: Run) -> dict[str, Any] | None:
    """What an earlier call left, if it was the same run."""
    if not (out / "needles.json").exists() or not (out / "model" / "config.json").exists():
        return None
    results = json.loads((out / "needles.json").read_text())
    if results["training"]["run"] != json.loads(json.dumps(described(run))):
        raise typer.BadParameter(f"{out} holds the results of another run; name another folder, or delete it.")
    return results


def asked(model: RetainForCausalLM, task: Needle, seeds: range, controls: tuple[AbstractControl, ...]) -> list[dict[str, Any]]:
    """What the model and its controls got right."""
    begun = time.perf_counter()
    batch = min(8, len(seeds))
    found = recall(model, task, seeds, controls=controls, by="needles", batch=batch, chunk=TOKENS_AT_ONCE // batch)
    return [{"reading": row.reading, "right": row.exact.right, "asked": row.exact.asked, "tokens": row.teacher.value} for row in found.rows()] + [
        {
            "seconds": round(time.perf_counter() - begun, 1),
            "depths": [outcome.facts["depth"] for outcome in found.outcomes if outcome.reading == "model"],
        }
    ]


def main(
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    seed: Annotated[int, typer.Option(help="Of weights and samples.")] = 0,
    work: Annotated[Path | None, typer.Option(help="Folder for the training, which then goes on where it stopped.")] = None,
    longest: Annotated[int, typer.Option(help="Lengths beyond are left out.")] = 1 << 20,
) -> None:
    """Train one model on haystacks of 192 to 2,048 bytes, and ask it in longer and longer ones. What ``out`` holds already is not done again."""
    begun = time.perf_counter()
    train, test = hays()
    results = begun_before(out, run_of(train, seed))
    if results is None:
        with tempfile.TemporaryDirectory() as scratch:
            model, about = trained(run_of(train, seed), work or Path(scratch) / "run", "needles")
        model.save_pretrained(out / "model")
        results = {"seed": seed, "training": about, "cells": []}
        keep(out / "needles.json", results, begun)
    model = RetainForCausalLM.from_pretrained(out / "model").eval()
    begun -= results.get("seconds", 0)
    there = {named(cell) for cell in results["cells"]}
    for i, cell in enumerate(cells(test)):
        if cell.task.length > longest or named(cell.facts) in there:
            continue
        first = (seed << 20) + 1000 * i
        *rows, how = asked(model, cell.task, range(first, first + cell.samples), cell.controls)
        results["cells"].append({**cell.facts, "samples": cell.samples, "rows": rows, **how})
        CONSOLE.print(*cell.facts.values(), *(f"{row['reading']} {row['right']}/{row['asked']} " for row in rows), f"{how['seconds']} s")
        keep(out / "needles.json", results, begun)
    results["cost"] = {"state_bytes": [row.state_bytes for row in cost(model, (1 << 10, 1 << 14), repeats=1, chunk=TOKENS_AT_ONCE).rows]}
    keep(out / "needles.json", results, begun)


if __name__ == "__main__":
    typer.run(main)
