"""What reading does to a memory: surprise by token, and what is known, while pairs are read again and new ones come.

python -m recipes.first_look.run --out recipes/first_look
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from retain import MemoryRule, MemoryState, bias, learner, retention
from retain.core.tokens import Tokens
from retain.engines import select

from ..associations import answers, nearest
from ..evidence import keep
from ..outliers.run import KEYS, STRUCTURES, WIDTH

SEEDS, ROUNDS = range(16), ("A", "A", "A", "A", "B", "B")
"""Of two sets of pairs, which is read in each round."""
SHARE = 0.5
"""The rate, as a share of the largest that a fresh memory bears."""


def pairs(seed: int) -> tuple[Tensor, Tensor]:
    """Keys of length one, and values [sets, pairs, width]."""
    source = torch.Generator().manual_seed(seed)
    keys, values = (torch.randn(2, KEYS, WIDTH, generator=source) for _ in range(2))
    return keys / keys.norm(dim=-1, keepdim=True), values


def looked_at(name: str, rate: float) -> dict[str, list[list[float]]]:
    """Of each seed: the surprise of each token, in units of the values' size, and the share of each set that is known after each round."""
    rule = MemoryRule(structure=STRUCTURES[name], bias=bias.L2(), retention=retention.Keep(), learner=learner.Gradient(), update_every=1)
    keys, values = (torch.stack(each) for each in zip(*(pairs(seed) for seed in SEEDS), strict=True))
    fresh = rule.structure.init(1, WIDTH, WIDTH, torch.Generator().manual_seed(0))
    state = MemoryState.start(rule, fresh, len(SEEDS))
    surprises, known = [], {"A": [], "B": []}
    for round_ in ROUNDS:
        k, v = keys[:, "AB".index(round_)], values[:, "AB".index(round_)]
        tokens = Tokens(k=k[:, :, None, None], v=v[:, :, None, None], q=k[:, :, None], lr=torch.full((len(SEEDS), KEYS, 1, 1), rate))
        _, state, surprise = select(rule).run(rule, tokens, state)
        surprises.append(surprise[..., 0] / (v.square().sum(-1) / 2))
        for which, i in (("A", 0), ("B", 1)):
            known[which].append((nearest(answers(rule, state, keys[:, i]), values[:, i]) == torch.arange(KEYS)).float().mean(-1))
    rows = {"surprise": torch.cat(surprises, dim=1), **{which: torch.stack(shares, dim=1) for which, shares in known.items()}}
    return {what: [[round(x, 4) for x in row] for row in found.tolist()] for what, found in rows.items()}


def main(out: Annotated[Path, typer.Option(help="Folder for the results.")]) -> None:
    """Read with each memory, and once without writing."""
    begun = time.perf_counter()
    rates = {name: SHARE * net.rate_bound(WIDTH) for name, net in STRUCTURES.items()}
    with torch.no_grad():
        found = {name: {"rate": rate, **looked_at(name, rate)} for name, rate in rates.items()}
        found["writes off"] = {"rate": 0.0, **looked_at("MLP", 0.0)}
    keep(out / "first_look.json", {"memories": found}, begun)


if __name__ == "__main__":
    typer.run(main)
