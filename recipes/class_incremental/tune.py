"""The rates and periods of each variant, on classes that are not asked about: python -m recipes.class_incremental.tune"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
import typer
from torch import Tensor

from ..evidence import CONSOLE, keep
from .learner import Rates, Variant, begun, measures, pretrained
from .streams import Data, Streams, drawn, pools
from .variants import RATES_OF, VARIANTS

HERE = Path(__file__).parent
SEED, ROWS, TRIALS = 1000, 16, 36
RATIOS, SPACINGS = (1 / 3, 1.0, 3.0), (2, 4)
LEAST, MOST = 2e-3, 0.1
JOINT, SHUFFLED = "joint", "1 frequency"
"""The bound from above: which variant reads all samples in one random order."""
PLASTIC = 0.9
"""What is learnt of a new task counts as enough from this share of the best of all trials."""


def trials(variant: Variant) -> list[Rates]:
    """As many for each variant: what it has no use for, it gets in finer rates."""
    ratios = RATIOS if len(variant.steps) > 1 else (1.0,)
    spacings = SPACINGS if any(variant.steps) else (1,)
    count = TRIALS // (len(ratios) * len(spacings))
    rates = [LEAST * (MOST / LEAST) ** (i / (count - 1)) for i in range(count)]
    return [Rates(first=round(rate, 6), ratio=round(ratio, 4), spacing=spacing) for rate in rates for ratio in ratios for spacing in spacings]


def chosen(found: dict[str, list[dict[str, Any]]], name: str) -> dict[str, Rates]:
    """The trial that knows most at the end, and that which forgets least of those that learn enough of what is new."""
    enough = PLASTIC * max(trial["newest"] for variant in found.keys() - {JOINT} for trial in found[variant])
    own = [trial for trial in found[name] if trial["newest"] >= enough]
    best = {
        "knows most": max(found[name], key=lambda trial: trial["final"]),
        "forgets least": min(own, key=lambda trial: trial["forgotten"]) if own else max(found[name], key=lambda trial: trial["newest"]),
    }
    return {why: Rates(**trial["rates"]) for why, trial in best.items()}


def tried(variant: Variant, streams: Streams, starts: dict[str, Tensor]) -> list[dict[str, Any]]:
    """What comes of each trial."""
    found = []
    for rates in trials(variant):
        seen = measures(begun(variant, rates, starts).matrix(streams))
        newest = round(sum(seen["newest"]) / len(seen["newest"]), 4)
        found.append({"rates": asdict(rates), "final": seen["final"][0], "newest": newest, "forgotten": seen["forgotten"][0]})
    return found


def main(out: Annotated[Path, typer.Option(help="File for the results.")] = HERE / "tuning.json") -> None:
    """Let each variant read the streams of the tuning seed at each of its rates, from pretrained starts; and one of them in no order."""
    begun_at, results = time.perf_counter(), {}
    torch.set_num_threads(1)
    for data in get_args(Data):
        pool, results[data] = pools(data), {}
        streams, joint = (drawn(pool["tuning"], ROWS, SEED, shuffled=shuffled) for shuffled in (False, True))
        starts = {kind: pretrained(variant, pool["pretraining"], SEED) for kind, variant in {each.starts: each for each in VARIANTS.values()}.items()}
        for name, variant in VARIANTS.items():
            if name in RATES_OF:
                continue
            results[data][name] = tried(variant, streams, starts[variant.starts])
            CONSOLE.print(data, name, *(each for each in chosen(results[data], name).items()))
            keep(out, {"seed": SEED, **results}, begun_at)
        results[data][JOINT] = tried(VARIANTS[SHUFFLED], joint, starts[VARIANTS[SHUFFLED].starts])
        keep(out, {"seed": SEED, **results}, begun_at)


if __name__ == "__main__":
    typer.run(main)
