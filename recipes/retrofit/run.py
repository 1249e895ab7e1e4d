"""What a memory in a frozen SmolLM2-135M keeps across a cut of the attention cache: trained, and asked in words, wordings and works that are held out.

python -m recipes.retrofit.run recall --base .venv/smollm2 --out recipes/retrofit/recall
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import load_file, save
from torch import Tensor
from transformers.utils import logging

from retain.evaluation import AfterCut, PageRecall, after_cut, page_recall, preservation
from retain.evaluation.retrofit.readings import OFF, READINGS
from retain.retrofit import FrozenPrefix, ask, branches_of, memory_parameters, read_pages
from retain.storage import write_whole
from retain.tasks import Continued, exam
from retain.training.lessons import Place
from retain.training.recipes import changed
from retain.training.retrofit import RetrofitRun, RetrofitTrainer
from retain.training.retrofit.recipes import RECIPES

from ..evidence import CONSOLE, keep

logging.disable_progress_bar()
BATCH = 8
EXAMS: dict[str, dict[str, int]] = {
    "words": {"words-31": 48},
    "many": {"words-127": 24, "words-31": 48},
    "lasting": {"words-followed-2k": 16, "words-followed-16k": 8, "words-followed-100k": 4, "words-31": 24},
    "recall": {"pairs-31": 48, "pairs-127": 24, "formats": 48, "followed-2k": 16, "followed-16k": 8, "followed-100k": 4},
    "hashes": {
        "hash-hop-1": 48,
        "hash-hop-bare-1": 48,
        "hash-hop-bare-2": 48,
        "hash-hop-bare-3": 48,
        "hash-hop-bare-4": 48,
        "hash-hop-2": 24,
        "hash-hop-2-thought": 24,
        "hash-hop-1-16": 24,
    },
    "tracing": {"tracing-1": 24, "tracing-2": 24},
    "code": {"text-code": 16},
}
"""Pages of each exam that a recipe is followed by."""
POINTS = (1, 5, 10, 15, 20, 25, 35, 50, 75, 100, 150, 200, 300, 400)
"""Updates after which some held-out pages are asked in between."""


def main(
    recipe: Annotated[str, typer.Argument(help=f"One of {', '.join(EXAMS)}.")],
    base: Annotated[str, typer.Option(help="Folder of the pretrained model; `retain retrofit fetch-smollm2` makes one.")],
    out: Annotated[Path, typer.Option(help="Folder for the results, a file for each seed.")],
    seeds: Annotated[str, typer.Option(help="Of weights and orders, with commas.")] = "0,1,2",
    change: Annotated[list[str] | None, typer.Option("--set", help="A setting of the run to change; may be repeated.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for the trainings, which then go on where they stopped.")] = None,
    only: Annotated[str | None, typer.Option(help="Exams to take, with commas; all if left out.")] = None,
) -> None:
    """Train a recipe with each seed, and hold each model to the exams, beside all controls."""
    with tempfile.TemporaryDirectory() as scratch:
        place, kept = (work or Path(scratch)) / recipe, dict[bytes, Tensor]()
        for i, seed in enumerate(map(int, seeds.split(","))):
            path, begun = out / f"seed-{seed}.json", time.perf_counter()
            run = changed(RECIPES[recipe](base), [*(change or []), f"seed={seed}"])
            trainer = RetrofitTrainer(run, place / f"seed-{seed}", kept=kept)
            prefixes = place / _prefixes(run, trainer)
            if not i and prefixes.exists():
                kept |= {bytes.fromhex(name): stream for name, stream in load_file(prefixes).items()}
            curve = _fit(trainer, recipe)
            results = _begun(path, {"seed": seed, "training": _about(trainer, run), "curve": curve})
            for name, count in EXAMS[recipe].items():
                if name not in results["exams"] and (only is None or name in only.split(",")):
                    results["exams"][name] = _examined(trainer, run, name, count, context=None if i == 0 else 0, kept=kept)
                    keep(path, results, begun)
            if work is not None:
                write_whole(prefixes, save({name.hex(): stream for name, stream in kept.items()}))
            results["preservation"] = _preserved(trainer, run)
            keep(path, results, begun)


def _begun(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """What is about this training, with the exams that it has taken already, if they were cut short."""
    before = json.loads(path.read_text()) if path.exists() else {}
    same = "preservation" not in before and all(before.get(name) == value for name, value in about.items())
    return {**about, "exams": before["exams"] if same else {}}


def _prefixes(run: RetrofitRun, trainer: RetrofitTrainer) -> str:
    """The file of what the frozen layers made of rows, named by all that it depends on beside these."""
    assert trainer.prefix is not None
    of = f"{run.model.base} {trainer.prefix.first} {run.reading.precision}"
    return f"prefixes-{hashlib.sha256(of.encode()).hexdigest()[:8]}.safetensors"


def _fit(trainer: RetrofitTrainer, recipe: str) -> list[dict[str, float]]:
    """Train, or go on with it, and ask in between; what came of that."""
    codec, kept = trainer.run.restraint.codec, trainer.folder / "curve.json"
    curve: list[dict[str, float]] = json.loads(kept.read_text()) if kept.exists() else []
    name = next(iter(EXAMS[recipe]))
    pages = exam(name, codec).batch(range(1 << 20, (1 << 20) + 2 * BATCH))

    def tick(place: Place, loss: float, right: float) -> None:
        if (place.step not in POINTS and place.step != trainer.run.steps) or any(point["step"] == place.step for point in curve):
            return
        with torch.no_grad():
            trainer.model.eval()
            cache = read_pages(trainer.model, pages, trainer.start, prefix=trainer.prefix)
            asked = ask(trainer.model, pages, cache, trainer.start, prefix=trainer.prefix)
            trainer.model.train()
        curve.append(
            {
                "step": place.step,
                "pages": place.step * trainer.run.reading.rows,
                "exact": float(asked.exact.float().mean()),
                "loss": float(asked.loss.mean()),
            }
        )
        write_whole(kept, json.dumps(curve).encode())
        CONSOLE.print(f"seed {trainer.run.seed}, update {place.step}: loss {loss:.3f}, right {right:.3f}; held out {curve[-1]['exact']:.3f}")

    trainer.fit(tick)
    return curve


def _about(trainer: RetrofitTrainer, run: RetrofitRun) -> dict[str, Any]:
    last = json.loads((trainer.folder / "metrics.jsonl").read_text().splitlines()[-1])
    return {
        "parameters": sum(weight.numel() for weight in memory_parameters(trainer.model)),
        "layers": list(run.model.memory.places(trainer.model.config.num_hidden_layers)),
        "updates": last["step"],
        "last": last,
        "strength": [round(branch.strength.item(), 4) for branch in branches_of(trainer.model)],
        "run": json.loads((trainer.folder / "run.json").read_text()),
    }


def _examined(trainer: RetrofitTrainer, run: RetrofitRun, name: str, count: int, context: int | None, kept: dict[bytes, Tensor]) -> dict[str, Any]:
    begun, codec = time.perf_counter(), run.restraint.codec
    pages = exam(name, codec)
    how: dict[str, Any] = {
        "start": trainer.start,
        "batch": BATCH,
        "full_context": context,
        "prefix": FrozenPrefix(trainer.model, kept),
        "title": name,
    }
    if isinstance(pages, Continued):
        found: PageRecall | AfterCut = after_cut(trainer.model, pages, range(count), **how)
        rows = _costs(found)
    else:
        found = page_recall(trainer.model, pages, range(count), codec=codec, by=_by(name), **how)
        rows = _rows(found)
    CONSOLE.print(found.markdown() + "\n", markup=False)
    return {"pages": count, "seconds": round(time.perf_counter() - begun, 1), "rows": rows}


def _by(name: str) -> str | None:
    return {"pairs": "format", "formats": "format"}.get(name.split("-")[0])


def _rows(found: PageRecall) -> list[dict[str, Any]]:
    """Of each reading, all questions and then each group."""
    rows = [*(found.overall(reading) for reading in READINGS), *found.rows()]
    kinds = ("exact", "tokens", "characters")
    return [
        {"group": row.group, "reading": row.reading, **{kind: [getattr(row, kind).right, getattr(row, kind).asked] for kind in kinds}} for row in rows
    ]


def _costs(found: AfterCut) -> list[dict[str, Any]]:
    """Of each reading, nats a token, and how many fewer than writes off, with their standard errors over texts."""
    means = {reading: (found.mean(reading), found.saved(reading, OFF)) for reading in READINGS}
    return [{"reading": name, "nats": mean[:2], "saved": saved[:2], "texts": mean.texts} for name, (mean, saved) in means.items()]


def _preserved(trainer: RetrofitTrainer, run: RetrofitRun) -> dict[str, Any]:
    """Perplexity of held-out English with the base, an empty memory, and one full of 31 pairs."""
    codec = run.restraint.codec
    texts = exam("text", codec)
    assert isinstance(texts, Continued)
    stretches = torch.stack([page.text[:128] for page in texts.batch(range(48))])
    left = preservation(trainer.model, stretches, exam("pairs-31", codec), range(48), start=trainer.start, batch=BATCH, title="English")
    CONSOLE.print(left.markdown() + "\n", markup=False)
    return json.loads(left.to_json())


if __name__ == "__main__":
    typer.run(main)
