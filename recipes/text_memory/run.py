"""What a text memory of one size knows of the first 100 to 20,000 texts that it reads, beside search over embeddings that are kept.

python -m recipes.text_memory.run verses --out recipes/text_memory/verses
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from retain.storage import write_whole
from retain.text import MemoryConfig, MiniLM

from ..evidence import CONSOLE, keep
from .exams import changed, followed
from .material import Material
from .memories import LeastSquares, Neural, Remembers, Search
from .sources import Pair, docstrings, verses

SOURCES: dict[str, Callable[[], list[Pair]]] = {"verses": verses, "docstrings": docstrings}
POINTS = (100, 300, 1000, 3000, 10_000, 20_000)
DIMS = (128, 256, 512)
LINEAR_RATE = 1.0
"""Each step of a matrix takes the text's error to nothing: the best of 0.03, 0.1, 0.25 and 1. At the rate of a network it learns next to nothing."""
TURN, AFTER = 5000, (0, 100, 300, 1000, 3000, 5000)
"""Texts before the topic changes, and after it, when the memory is asked."""


def main(
    what: Annotated[str, typer.Argument(help=f"{', '.join(SOURCES)}, or change: from the first to the second.")],
    out: Annotated[Path, typer.Option(help="Folder for the results, a file for each seed.")],
    seeds: Annotated[str, typer.Option(help="Of the order of the texts and of the first weights, with commas.")] = "0,1,2",
    work: Annotated[Path | None, typer.Option(help="Folder for the embeddings, which are then made once.")] = None,
) -> None:
    """Let each memory read the texts, and ask it on the way; those that a file of results has already are left as they are."""
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        embedder = MiniLM()
        names = list(SOURCES) if what == "change" else [what]
        place = work or Path(scratch)
        materials = [Material.of(pairs(name, place), embedder, place) for name in names]
        for seed in map(int, seeds.split(",")):
            path, begun = out / f"seed-{seed}.json", time.perf_counter()
            results: dict[str, Any] = {
                "seed": seed,
                "embedder": embedder.identity,
                "texts": {name: len(pairs(name, place)) for name in names},
                "memories": {},
            }
            streams = [material.stream(seed) for material in materials]
            if path.exists():
                results["memories"] = json.loads(path.read_text())["memories"]
            for name, memory in memories(embedder.width, seed, DIMS if len(streams) == 1 else DIMS[1:2]).items():
                if name in results["memories"]:
                    continue
                start = time.perf_counter()
                if len(streams) == 1:
                    told = partial(CONSOLE.print, f"seed {seed}, {name}:", markup=False)
                    rows = followed(memory, streams[0], POINTS, seed, told)
                else:
                    rows = changed(memory, *streams, read=TURN, points=AFTER)
                results["memories"][name] = {"seconds": round(time.perf_counter() - start, 1), "rows": rows}
                keep(path, results, begun)


def pairs(name: str, folder: Path) -> list[Pair]:
    """What a source has, from the folder if it was looked through before."""
    path = folder / f"{name}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(SOURCES[name]()).encode())
    return [Pair(*pair) for pair in json.loads(path.read_text())]


def memories(width: int, seed: int, dims: tuple[int, ...] = DIMS) -> dict[str, Remembers]:
    """What is compared: search over all embeddings; memories, and as many embeddings as would fill their bytes; memories that are matrices."""
    found: dict[str, Remembers] = {"search": Search(), "least squares": LeastSquares(width)}
    linear = MemoryConfig(dim=max(dims), memory_depth=1, learning_rate=LINEAR_RATE, seed=seed)
    found["linear"] = Neural(linear, width)
    for dim in dims:
        memory = found[f"memory {dim}"] = Neural(MemoryConfig(dim=dim, seed=seed), width)
        found[f"reservoir {dim}"] = Search(memory.bytes // width, seed)
    return found


if __name__ == "__main__":
    typer.run(main)
