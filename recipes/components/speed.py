"""How fast memories of depth 1 to 4 read and are trained, side by side in one run: python -m recipes.components.speed --out recipes/components"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from retain.models import RetainConfig, RetainForCausalLM

from ..evidence import CONSOLE, keep
from .run import model_of

DEPTHS = {1: "depth 1 (linear memory)", 2: "full", 3: "depth 3", 4: "depth 4"}
LENGTHS = (512, 2048, 8192)
TOKENS, REPEATS = 8192, 7


def seconds(model: RetainForCausalLM, tokens: torch.Tensor, train: bool) -> float:
    """One forward pass, or one forward and backward."""
    begun = time.perf_counter()
    if train:
        model.zero_grad()
        loss = model.train()(tokens, labels=tokens, use_cache=False).loss
        assert loss is not None
        loss.backward()
    else:
        with torch.no_grad():
            model.eval()(tokens, use_cache=False, logits_to_keep=1)
    return time.perf_counter() - begun


def main(out: Annotated[Path, typer.Option(help="Folder for speed.json.")]) -> None:
    """Time every depth at every length in turn, again and again, and keep the medians."""
    begun = time.perf_counter()
    torch.manual_seed(0)
    models = {depth: RetainForCausalLM(RetainConfig(vocab_size=256, **model_of(name))) for depth, name in DEPTHS.items()}
    rows = []
    for length in LENGTHS:
        tokens = torch.randint(256, (TOKENS // length, length))
        for train in (False, True):
            taken: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
            for _ in range(1 + REPEATS):
                for depth, model in models.items():
                    taken[depth].append(seconds(model, tokens, train))
            for depth in DEPTHS:
                speed = TOKENS / statistics.median(taken[depth][1:])
                rows.append({"depth": depth, "length": length, "train": train, "tokens_per_second": speed, "seconds": taken[depth]})
                CONSOLE.print(f"depth {depth}, {length:,} tokens, {'train' if train else 'read'}: {speed:,.0f} tokens/s")
    keep(out / "speed.json", {"rows": rows}, begun)


if __name__ == "__main__":
    typer.run(main)
