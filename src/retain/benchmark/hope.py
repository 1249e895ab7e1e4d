"""What training Hope costs, against an LMM with Titans' memory of as many parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from retain.models import RetainConfig, RetainForCausalLM

from .plan import Plan
from .timing import Watch, in_turns

TIME, ROWS, DIM, HIDDEN, HEADS, CHUNKS = 1024, 4, 128, 344, 2, (16, 64)
AT_MOST = 4.0
"""Times the LMM's time."""


def measure_hope(plan: Plan, watch: Watch) -> dict[str, Any]:
    """Train steps of the LMM, of Hope and of Hope whose levels stand still, in turns, with chunks of equal length."""
    time = TIME // 8 if plan.quick else TIME
    ids, rows = torch.randint(256, (ROWS, time), generator=torch.Generator().manual_seed(0)), []
    for i, chunk in enumerate(CHUNKS):
        models = {name: RetainForCausalLM(RetainConfig(**given)).train() for name, given in _models(chunk).items()}
        calls = {name: _train_step(model, ids) for name, model in models.items()}
        times = in_turns(calls, plan.repeats, plan.warm_ups, lambda done, note, i=i: watch((i + done) / len(CHUNKS), note))
        for name, taken in times.items():
            slower, judged = taken.median / times["LMM"].median, name == "Hope"
            rows.append(
                {
                    "model": name,
                    "chunk": chunk,
                    "parameters": sum(weight.numel() for weight in models[name].parameters()),
                    **{f"tokens_per_second_{which}": rate for which, rate in taken.rates(ROWS * time).items()},
                    "times_lmm": slower,
                    "reached": slower <= AT_MOST if judged else None,
                }
            )
    what = (
        f"2 blocks of dim {DIM}, {HEADS} heads, {ROWS} rows, T {time}; Hope's two levels learn after each chunk and after every fourth, outer gradients pass "
        "through their steps; levels that learn within a chunk of the memories cost more"
    )
    return {"what": what, "target": AT_MOST, "rows": rows}


def _models(chunk: int) -> dict[str, dict[str, Any]]:
    """Configurations of as many parameters, within half a per cent: Hope has half as wide a token-wise half, twice."""
    same: dict[str, Any] = {"vocab_size": 256, "hidden_size": DIM, "num_hidden_layers": 2, "num_attention_heads": HEADS, "persistent_tokens": 0}
    levels = [{"every": every, "options": {"lr": 1e-2}, "learnt_rate": True} for every in (chunk, 4 * chunk)]
    hope = {**same, "block": "hope", "levels": levels, "self_modifying": {"heads": HEADS, "rule": {"chunk": chunk}}}
    return {
        "LMM": {**same, "block": "lmm", "intermediate_size": HIDDEN, "memory": {"heads": HEADS, "rule": {"update_every": chunk}}},
        "Hope": {**hope, "intermediate_size": HIDDEN // 2},
        "Hope, levels still": {**hope, "intermediate_size": HIDDEN, "levels": []},
    }


def _train_step(model: RetainForCausalLM, ids: Tensor) -> Callable[[], None]:
    def call() -> None:
        model.zero_grad()
        loss = model(ids, labels=ids, use_cache=False).loss
        assert loss is not None
        loss.backward()

    return call
