"""Keys that are bound anew: what each retention gate lets go, and what it keeps.

python -m recipes.forgetting.run --out recipes/forgetting
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from retain import MemoryRule, bias, learner, retention, structure
from retain.core.contracts import AbstractBias, AbstractRetention

from ..associations import answers, written
from ..evidence import CONSOLE, keep

WIDTH, VALUES, KEYS, TIMES = 32, 16, 24, 4
REBOUND = KEYS // 2
TUNED, ASKED = range(1000, 1008), range(16)
RATES = tuple(2.0**e for e in range(-6, 7))
KEPT = (1.0, 0.999, 0.99, 0.97, 0.9)
GATES: dict[str, tuple[AbstractRetention, ...]] = {
    "nothing let go": (retention.Keep(),),
    "l2 (decay)": (retention.Decay(),),
    "KL (softmax)": (retention.KL(total=1.0), retention.KL(total=4.0)),
    "elastic net": tuple(retention.ElasticNet(threshold=t) for t in (1e-4, 1e-3, 1e-2)),
}
"""What is tuned of a gate beside rate and share: its constants."""
BIASES: dict[str, AbstractBias] = {"squared error": bias.L2(), "dot product": bias.Dot()}
"""The one takes away what a key was bound to as it binds it anew, the other adds to it: there the gate alone forgets."""


def stream(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Keys and one-hot values in the order of writing; the keys; which value each was bound to first, and which last."""
    source = torch.Generator().manual_seed(seed)
    keys = torch.randn(KEYS, WIDTH, generator=source).relu()  # shares of a simplex are read with positive keys
    keys = keys / keys.norm(dim=-1, keepdim=True)
    first = torch.randint(VALUES, (KEYS,), generator=source)
    last = first.clone()
    last[:REBOUND] = (first[:REBOUND] + torch.randint(1, VALUES, (REBOUND,), generator=source)) % VALUES
    before = torch.cat([torch.randperm(KEYS, generator=source) for _ in range(TIMES)])
    after = torch.cat([torch.randperm(REBOUND, generator=source) for _ in range(TIMES)])
    bound = torch.cat([first[before], last[after]])
    order = torch.cat([before, after])
    return keys[order], F.one_hot(bound, VALUES).float(), keys, first, last


def asked(held: AbstractBias, gate: AbstractRetention, rate: float, kept: float, seeds: range) -> dict[str, Tensor]:
    """Of each seed: rebound keys that answer with their new value, or still with their old one; other keys that answer with theirs; weights that are zero."""
    rule = MemoryRule(structure=structure.Matrix(), bias=held, retention=gate, learner=learner.Gradient(), update_every=1)
    k, v, keys, first, last = (torch.stack(parts) for parts in zip(*map(stream, seeds), strict=True))
    state = written(rule, {"w": torch.zeros(1, WIDTH, VALUES)}, k, v, rate, kept)
    said = answers(rule, state, keys).argmax(-1)
    weights = gate.expose(state.accumulator)["w"].flatten(1)
    return {
        "newest": (said == last)[:, :REBOUND].float().mean(-1),
        "stale": (said == first)[:, :REBOUND].float().mean(-1),
        "others": (said == last)[:, REBOUND:].float().mean(-1),
        "zeros": (weights == 0).float().mean(-1),
    }


def main(out: Annotated[Path, typer.Option(help="Folder for the results.")]) -> None:
    """Tune rate, kept share and constants of each gate on streams of its own, for all keys together, then ask on others."""
    begun, cells = time.perf_counter(), []
    with torch.no_grad():
        for held_name, held in BIASES.items():
            for name, gates in GATES.items():
                shares = (1.0,) if gates[0].gate == "none" else KEPT
                tuned = {(gate, rate, kept): _score(asked(held, gate, rate, kept, TUNED)) for gate in gates for rate in RATES for kept in shares}
                gate, rate, kept = max(tuned, key=lambda choice: tuned[choice])
                found = asked(held, gate, rate, kept, ASKED)
                values = {label: [round(x, 4) for x in numbers.tolist()] for label, numbers in found.items()}
                cells.append({"bias": held_name, "gate": name, "chosen": repr(gate), "rate": rate, "kept": kept, **values})
                CONSOLE.print(f"{held_name}, {gate}, {rate:g}, {kept:g}:", *(f"{label} {numbers.mean():.3f}" for label, numbers in found.items()))
    keep(out / "forgetting.json", {"cells": cells}, begun)


def _score(found: dict[str, Tensor]) -> float:
    """What is tuned for: newest values and those of the other keys, alike."""
    return float((found["newest"] + found["others"]).nan_to_num(0.0).mean())


if __name__ == "__main__":
    typer.run(main)
