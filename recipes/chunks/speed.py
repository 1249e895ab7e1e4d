"""How fast four memories read and are trained by the chunk, side by side in one run: python -m recipes.chunks.speed --out recipes/chunks"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from retain.models import RetainConfig, RetainForCausalLM

from ..components.speed import seconds
from ..evidence import CONSOLE, keep
from .run import CHUNKS, MEMORIES, model_of

ROWS, LENGTH, REPEATS = 16, 256, 7


def main(out: Annotated[Path, typer.Option(help="Folder for speed.json.")]) -> None:
    """Time every memory with every chunk in turn, again and again, and keep the medians."""
    begun = time.perf_counter()
    torch.manual_seed(0)
    models = {(name, chunk): RetainForCausalLM(RetainConfig(vocab_size=256, **model_of(name, chunk))) for name in MEMORIES for chunk in CHUNKS}
    tokens, rows = torch.randint(256, (ROWS, LENGTH)), []
    for train in (False, True):
        taken: dict[tuple[str, int], list[float]] = {which: [] for which in models}
        for _ in range(1 + REPEATS):
            for which, model in models.items():
                taken[which].append(seconds(model, tokens, train))
        for (name, chunk), times in taken.items():
            speed = ROWS * LENGTH / statistics.median(times[1:])
            rows.append({"memory": name, "chunk": chunk, "train": train, "tokens_per_second": speed, "seconds": times})
            CONSOLE.print(f"{name}, chunk {chunk}, {'train' if train else 'read'}: {speed:,.0f} tokens/s")
    keep(out / "speed.json", {"rows": rows, "batch": ROWS, "length": LENGTH}, begun)


if __name__ == "__main__":
    typer.run(main)
