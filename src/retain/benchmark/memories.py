"""What the memories of MIRAS cost, against Titans' in the same layer."""

from __future__ import annotations

from typing import Any

import torch

from retain import NeuralMemory, presets
from retain.core.rule import MemoryRule

from .plan import Plan
from .timing import Watch, forward, in_turns, train_step

TIME, DIM, HEADS, CHUNK = 4096, 256, 4, 16
RULES: dict[str, MemoryRule] = {
    "titans": presets.titans(update_every=CHUNK),
    "yaad": presets.yaad(update_every=CHUNK),
    "moneta": presets.moneta(update_every=CHUNK, exposed="boundary"),
    "memora": presets.memora(update_every=CHUNK, exposed="boundary"),
}
SLOWER = {"yaad": 1.3, "moneta": 3.0, "memora": 3.0}
"""At most this many times Titans' time."""


def measure_memories(plan: Plan, watch: Watch) -> dict[str, Any]:
    """Forward calls and train steps of each memory in turns, as multiples of Titans' time."""
    time = TIME // 16 if plan.quick else TIME
    x = torch.randn(1, time, DIM, generator=torch.Generator().manual_seed(0))
    layers = {name: NeuralMemory(DIM, heads=HEADS, rule=rule) for name, rule in RULES.items()}
    rows = []
    for i, (phase, call) in enumerate((("forward", forward), ("train", train_step))):
        calls = {name: call(layer, x) for name, layer in layers.items()}
        times = in_turns(calls, plan.repeats, plan.warm_ups, lambda done, note, i=i, phase=phase: watch((i + done) / 2, f"{phase}, {note}"))
        for name, taken in times.items():
            slower, target = taken.median / times["titans"].median, SLOWER.get(name)
            rows.append(
                {
                    "memory": name,
                    "engine": layers[name].engine.name,
                    "phase": phase,
                    **{f"tokens_per_second_{which}": rate for which, rate in taken.rates(time).items()},
                    "times_titans": slower,
                    "target": target,
                    "reached": None if target is None else slower <= target,
                }
            )
    return {"what": f"dim {DIM}, {HEADS} heads, boundary every {CHUNK}, links at boundaries, T {time}", "rows": rows}
