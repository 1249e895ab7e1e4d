"""Ten million bytes, once: eight passkeys in one haystack, all asked.

python -m recipes.needles.longest --seed 0 --out recipes/needles/seed-0
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from retain.evaluation import MemoryReset, WindowCut
from retain.evaluation.resident import Resident
from retain.models import RetainForCausalLM

from ..evidence import CONSOLE, keep
from .run import CASES, asked, hays

LENGTH = 10_000_000


def main(
    out: Annotated[Path, typer.Option(help="Folder that holds a trained model.")],
    seed: Annotated[int, typer.Option(help="Of the haystack.")] = 0,
) -> None:
    """Read the haystack in one stream, and tell what the process occupied meanwhile."""
    begun = time.perf_counter()
    model = RetainForCausalLM.from_pretrained(out / "model").eval()
    eight = next(case for case in CASES if case.name == "eight passkeys")
    task = eight.task(hays()[1], LENGTH)
    sample = task.sample((seed << 20) + 999_999)
    with Resident() as resident:
        *rows, how = asked(model, task, range((seed << 20) + 999_999, (seed << 20) + 1_000_000), (MemoryReset(), WindowCut()))
        resident.look()
    CONSOLE.print(*(f"{row['reading']} {row['right']}/{row['asked']} " for row in rows), f"{how['seconds']} s")
    memory = {"before_bytes": resident.before, "peak_bytes": resident.peak, "tokens_bytes": sample.tokens.numel() * sample.tokens.element_size()}
    keep(out / "longest.json", {"length": LENGTH, "case": eight.name, "rows": rows, **how, "memory": memory}, begun)


if __name__ == "__main__":
    typer.run(main)
