"""What a continuum memory still knows at the end of a class-incremental stream, by the number of its frequencies.

python -m recipes.class_incremental.run --seed 0 --out recipes/class_incremental/seed-0
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
import typer
from torch import Tensor

from ..evidence import CONSOLE, keep
from .learner import Learner, Rates, Variant, begun, measures, meta_learnt, pretrained
from .streams import Data, Pool, drawn, pools
from .tune import HERE, JOINT, SHUFFLED, chosen
from .variants import META_LEARNT, RATES_OF, VARIANTS

ROWS, OUTER_STEPS = 32, 40


def main(
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    seed: Annotated[int, typer.Option(help="Of weights and streams.")] = 0,
) -> None:
    """Each variant on each data, from pretrained and from meta-learnt starts; what an earlier call found is kept."""
    torch.set_num_threads(1)
    tuned = json.loads((HERE / "tuning.json").read_text())
    for data in get_args(Data):
        path = out / f"{data}.json"
        results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"seed": seed, "variants": {}}
        begun_at, pool = time.perf_counter() - results.get("seconds", 0), pools(data)
        starts: dict[tuple[int, bool], dict[str, Tensor]] = {}
        for name, variant in VARIANTS.items():
            if name in results["variants"]:
                continue
            if variant.starts not in starts:
                starts[variant.starts] = pretrained(variant, pool["pretraining"], seed)
            settings = chosen(tuned[data], RATES_OF.get(name, name)) | ({JOINT: chosen(tuned[data], JOINT)["knows most"]} if name == SHUFFLED else {})
            outer_steps = OUTER_STEPS if name in META_LEARNT else 0
            results["variants"][name] = of(variant, settings, starts[variant.starts], pool, seed, outer_steps)
            for how, cell in results["variants"][name]["cells"].items():
                CONSOLE.print(data, name, how, *(f"{label} {cell[label]}" for label in ("final", "forgotten", "newest", "joint")))
            keep(path, results, begun_at)


def of(variant: Variant, settings: dict[str, Rates], starts: dict[str, Tensor], pool: dict[str, Pool], seed: int, outer_steps: int) -> dict[str, Any]:
    """What a variant comes to from pretrained starts at each setting, and from starts that are learnt further through streams."""
    cells = {how: {"rates": asdict(rates), **asked(begun(variant, rates, starts), pool["asked"], seed)} for how, rates in settings.items()}
    learner = begun(variant, settings["knows most"], starts)
    if outer_steps:
        losses = meta_learnt(learner, pool["pretraining"], seed, steps=outer_steps)
        cells["meta-learnt"] = {"rates": _learnt_rates(learner), "losses": [round(loss, 4) for loss in losses], **asked(learner, pool["asked"], seed)}
    return {"parameters": sum(weight.numel() for weight in learner.memory.weights(learner.memory.start(1)).values()), "cells": cells}


def asked(learner: Learner, pool: Pool, seed: int) -> dict[str, Any]:
    """The measures of streams; right answers at their end if the task is told, at the end of shuffled ones, and without learning."""
    first = 10_000 + 1000 * seed
    streams, joint = (drawn(pool, ROWS, first, shuffled=shuffled) for shuffled in (False, True))
    states = list(learner.read(streams))
    matrix = torch.stack([learner.right(streams, state) for state in states], 1)
    told, off = learner.right(streams, states[-1], told=True), learner.right(streams, None)
    last = {"told": told, "joint": learner.matrix(joint)[:, -1], "off": off}
    return measures(matrix) | {label: [round(float(part.mean()), 4)] for label, part in last.items()}


def _learnt_rates(learner: Learner) -> dict[str, Any]:
    found = {name: float(weight.detach().exp()) for name, weight in learner.named_parameters() if "log_rate" in name}
    return {"every": [level.every for level in learner.memory.levels], "lr": [round(rate, 5) for rate in found.values()]}


if __name__ == "__main__":
    typer.run(main)
