"""Formal languages: words of up to 24 letters are learnt, words of up to 256 are asked.

python -m recipes.formal_languages.run --seed 0 --out recipes/formal_languages/seed-0
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from retain.evaluation import WritesOff, recall
from retain.models import RetainForCausalLM
from retain.tasks import AbstractTask, AnBn, EvenCopies, Parity
from retain.training import Lesson, Run, Schedule, Watch
from retain.training.describe import described

from ..evidence import CONSOLE, keep, trained

HERE = Path(__file__).parent
LANGUAGES = ("parity", "(aa)*", "a^n b^n")
COUNTED = {"parity": ("right", "asked"), "(aa)*": ("right", "asked"), "a^n b^n": ("words", "of")}
"""Letters, but whole words where most letters are easy to guess."""
BINS = ((2, 24), (25, 64), (65, 128), (129, 256))
"""Letters of a word, from the fewest to the most; the first bin is what is trained on."""
EASY, SAMPLES = 8, 64
SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "persistent_tokens": 0}
SELF_MODIFYING = {"structure": "Matrix", "rule": {"chunk": 1}, "rates": {"eta": 0.5}}
LEVELS = [{"every": 16, "options": {"lr": 1e-3}, "learnt_rate": True}]
HOPE = {"block": "hope", "levels": [], "self_modifying": SELF_MODIFYING, "intermediate_size": 112}
MODELS: dict[str, dict[str, Any]] = {
    "Hope": HOPE,
    "DeltaNet, up to 1": {"block": "lmm", "memory": {"preset": "delta_net", "gates": {"lr": 0.5, "rate": 1.0}}},
    "DeltaNet, up to 2": {"block": "lmm", "memory": {"preset": "delta_net", "gates": {"lr": 0.5, "rate": 2.0}}},
    "linear attention": {"block": "lmm", "memory": {"preset": "linear_attention"}},
    "transformer": {"block": "attention", "intermediate_size": 114},
    "Hope, a level learns": {**HOPE, "levels": LEVELS},
}
TUNED_AS = {"Hope, a level learns": "Hope"}


def words(language: str, fewest: int, most: int) -> AbstractTask:
    """Words of so many letters."""
    if language == "parity":
        return Parity(shortest=fewest, longest=most)
    if language == "(aa)*":
        return EvenCopies(shortest=fewest, longest=most)
    return AnBn(shortest=-(-fewest // 2), longest=most // 2)


def rate_of(name: str, language: str) -> float:
    """The learning rate that `tune.py` found."""
    return json.loads((HERE / "tuning.json").read_text())["best"][TUNED_AS.get(name, name)][language]


def run_of(name: str, language: str, seed: int, lr: float) -> Run:
    """The same lessons for all: short words until they are known, then all training lengths."""
    fewest, most = BINS[0]
    easy = Lesson(tasks=(words(language, fewest, EASY),), steps=70, promote_at=0.99)
    lessons = (easy, Lesson(tasks=(words(language, fewest, most),), steps=170))
    schedule = Schedule(lr=lr, gate_lr=lr)
    return Run(model={**SIZES, **MODELS[name]}, lessons=lessons, schedule=schedule, watch=Watch(save_every=1000), seed=seed)


def asked(model: RetainForCausalLM, language: str, seed: int, samples: int = SAMPLES) -> list[dict[str, Any]]:
    """How often a model is right in each bin, letter by letter and on whole words; and the same while no memory takes a step."""
    rows: list[dict[str, Any]] = []
    controls = () if model.config.block == "attention" else (WritesOff(),)
    for i, (fewest, most) in enumerate(BINS):
        first = (seed << 20) + 1000 * i
        title = f"{language}, without controls" if not controls else language
        found = recall(model, words(language, fewest, most), range(first, first + samples), controls=controls, batch=samples, chunk=512, title=title)
        for reading in ("model", *found.controls):
            row = found.overall(reading)
            tokens, whole = row.teacher, row.whole
            rows.append(
                {"bin": [fewest, most], "reading": reading, "right": tokens.right, "asked": tokens.asked, "words": whole.right, "of": whole.asked}
            )
    return rows


def main(
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    seed: Annotated[int, typer.Option(help="Of weights and samples.")] = 0,
    work: Annotated[Path | None, typer.Option(help="Folder for the trainings, which then go on where they stopped.")] = None,
    levels: Annotated[bool, typer.Option(help="Whether the models whose levels learn are trained, too, which takes as long as all others.")] = True,
) -> None:
    """Train each model on each language, and ask it for longer words. What an earlier call left in the folder is not trained again."""
    path = out / "languages.json"
    results = json.loads(path.read_text()) if path.exists() else {"seed": seed, "cells": []}
    begun = time.perf_counter() - results.get("seconds", 0)
    with tempfile.TemporaryDirectory() as scratch:
        for name in [name for name, model in MODELS.items() if levels or not model.get("levels")]:
            for i, language in enumerate(LANGUAGES):
                run = run_of(name, language, seed, rate_of(name, language))
                if any(cell["training"]["run"] == json.loads(json.dumps(described(run))) for cell in results["cells"]):
                    continue
                model, about = trained(run, (work or Path(scratch)) / f"{name}-{i}", f"{name}, {language}")
                rows = asked(model, language, seed)
                results["cells"].append({"model": name, "language": language, "training": about, "rows": rows})
                CONSOLE.print(" ", *(f"{row['reading']} {row['right'] / row['asked']:.3f} {row['words']}/{row['of']} " for row in rows))
                keep(path, results, begun)


if __name__ == "__main__":
    typer.run(main)
