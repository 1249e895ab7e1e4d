"""How much of the machine is used: setting D's memory over a long call, against a plain matrix product; and the same in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from .ours import Ours, Prenormed, weights
from .plan import Plan
from .settings import SETTINGS
from .timing import SGEMM_FLOPS, Watch, forward, in_turns, sgemm

TIME = 4096
SHARE, BFLOAT16 = 0.5, 1.5


def measure_flops(plan: Plan, watch: Watch) -> dict[str, Any]:
    """The share of sgemm's speed that a forward call reaches, and how much faster it is under bfloat16 autocast, with the error that costs."""
    setting = SETTINGS["D"].at(SETTINGS["D"].time if plan.quick else TIME)
    drawn, x = weights(setting)
    layer = Ours().build(setting)
    layer.load_state_dict(drawn)
    watch(0.0, "counting")
    in_bfloat16 = _under_autocast(layer, x)
    with FlopCounterMode(display=False) as counter:
        exact = _output(forward(layer, x))
    flops = counter.get_total_flops()
    rough = _output(in_bfloat16).float()
    times = in_turns(
        {"float32": forward(layer, x), "bfloat16": in_bfloat16, "sgemm": sgemm()},
        2 * plan.repeats,
        plan.warm_ups,
        lambda done, note: watch(0.1 + 0.9 * done, note),
    )
    gflops, peak = times["float32"].rates(flops / 1e9), times["sgemm"].rates(SGEMM_FLOPS / 1e9)
    tokens, faster = times["float32"].rates(setting.time), times["float32"].median / times["bfloat16"].median
    share = gflops["median"] / peak["median"]
    return {
        "what": setting.sentence,
        "flops_per_token": flops / setting.time,
        "tokens_per_second": tokens["median"],
        "gflops": gflops["median"],
        "gflops_min": gflops["min"],
        "gflops_max": gflops["max"],
        "sgemm_gflops": peak["median"],
        "share": share,
        "share_target": SHARE,
        "share_reached": share >= SHARE,
        "bfloat16_faster": faster,
        "bfloat16_target": BFLOAT16,
        "bfloat16_reached": faster >= BFLOAT16,
        "bfloat16_max_rel_error": float((rough - exact).abs().max() / exact.abs().max()),
        "bfloat16_rms_rel_error": float((rough - exact).norm() / exact.norm()),
    }


def _output(call: Callable[[], Any]) -> Tensor:
    return call()[0]


def _under_autocast(layer: Prenormed, x: Tensor) -> Callable[[], object]:
    def call() -> object:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            return layer(x)

    return call
