"""Memories that are written with outliers: squares, powers and Huber's function of the error.

python -m recipes.outliers.run --out recipes/outliers
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from retain import MemoryRule, bias, learner, retention, structure
from retain.core.contracts import AbstractBias, AbstractStructure

from ..associations import answers, nearest, written
from ..evidence import CONSOLE, keep

WIDTH, KEYS, WRITES = 32, 24, 16
SHARES = (0.0, 0.05, 0.1, 0.2)
SIZE = 20.0
"""Of an outlier, in standard deviations of a value."""
TUNED, ASKED = range(1000, 1008), range(16)
RATES = tuple(2.0**e for e in range(-11, 3))
BIASES: dict[str, AbstractBias] = {
    "l2": bias.L2(),
    "l1": bias.Lp(p=1.0),
    "l1.5": bias.Lp(p=1.5, surrogate="consistent"),
    "l3": bias.Lp(p=3.0, surrogate="consistent"),
    "Huber, by coordinate": bias.Huber(kind="coordinate", threshold=1.0),
    "Huber, by norm": bias.Huber(kind="norm", threshold=4.0),
    "Huber, mixture (Yaad)": bias.Huber(kind="mixture", threshold=8.0),
}
"""Thresholds are a bit above the norm, or the size of a coordinate, of a value: no error of a clean value need ever pass them."""
STRUCTURES: dict[str, AbstractStructure] = {
    "matrix": structure.Matrix(),
    "MLP": structure.NormResidual(inner=structure.MLP()),
}


@dataclass(frozen=True)
class Stream:
    """Keys that are bound to the same values again and again, some of the writings spoilt."""

    k: Tensor
    v: Tensor
    keys: Tensor
    values: Tensor


def stream(seed: int, share: float) -> Stream:
    source = torch.Generator().manual_seed(seed)
    keys = torch.randn(KEYS, WIDTH, generator=source)
    keys = keys / keys.norm(dim=-1, keepdim=True)
    values = torch.randn(KEYS, WIDTH, generator=source)
    order = torch.cat([torch.randperm(KEYS, generator=source) for _ in range(WRITES)])
    spoilt = torch.rand(len(order), generator=source) < share
    noise = SIZE * torch.randn(len(order), WIDTH, generator=source)
    return Stream(keys[order], values[order] + spoilt[:, None] * noise, keys, values)


def recalled(net: AbstractStructure, held: AbstractBias, rate: float, seeds: range, share: float) -> Tensor:
    """Of each seed, the share of keys whose answer lies nearest to their own value."""
    rule = MemoryRule(structure=net, bias=held, retention=retention.Keep(), learner=learner.Gradient(), update_every=1)
    k, v, keys, values = (torch.stack(parts) for parts in zip(*(vars(stream(seed, share)).values() for seed in seeds), strict=True))
    fresh = net.init(1, WIDTH, WIDTH, torch.Generator().manual_seed(0))
    found = answers(rule, written(rule, fresh, k, v, rate), keys)
    return (nearest(found, values) == torch.arange(KEYS)).float().mean(-1)


def main(out: Annotated[Path, typer.Option(help="Folder for the results.")]) -> None:
    """Tune the rate of each bias for each share of outliers on streams of its own, then ask on others."""
    begun, cells = time.perf_counter(), []
    with torch.no_grad():
        for net_name, net in STRUCTURES.items():
            for name, held in BIASES.items():
                for share in SHARES:
                    tuned = {rate: float(recalled(net, held, rate, TUNED, share).nan_to_num(0.0).mean()) for rate in RATES}
                    rate = max(tuned, key=lambda r: tuned[r])
                    found = recalled(net, held, rate, ASKED, share)
                    cells.append(
                        {"structure": net_name, "bias": name, "share": share, "rate": rate, "recalled": [round(x, 4) for x in found.tolist()]}
                    )
                    CONSOLE.print(f"{net_name}, {name}, {share:.0%}: rate {rate:g}, {found.mean():.3f}")
    keep(out / "outliers.json", {"cells": cells}, begun)


if __name__ == "__main__":
    typer.run(main)
