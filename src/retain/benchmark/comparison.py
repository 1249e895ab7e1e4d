"""Settings A to D against the peer: agreement first, then speed and peak memory, forward and in training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from .apart import apart
from .job import Job, run_apart
from .parity import (
    EXACT_TOLERANCE,
    GRADIENT_TOLERANCE,
    OUTPUT_TOLERANCE,
    Pair,
    exact_output_error,
    gradient_errors,
    output_error,
    pair,
)
from .plan import Plan
from .settings import SETTINGS, Setting, chosen
from .timing import SGEMM_FLOPS, Watch, forward, in_turns, sgemm, train_step

_PHASES: tuple[Literal["forward", "train"], ...] = ("forward", "train")


def compare_settings(plan: Plan, watch: Watch) -> dict[str, Any]:
    """A row for each setting and phase. Speeds are tokens per second; where the libraries disagree there are none."""
    rows: list[dict[str, Any]] = []
    settings = chosen(plan.settings)
    for i, setting in enumerate(settings):

        def inner(done: float, note: str, i: int = i, name: str = setting.name) -> None:
            watch((i + done) / len(settings), f"{name}: {note}")

        rows += _rows(setting.at(setting.time // 4) if plan.quick else setting, plan, inner)
    return {"rows": rows}


def _rows(setting: Setting, plan: Plan, watch: Watch) -> Iterator[dict[str, Any]]:
    watch(0.0, "do the outputs agree?")
    errors = apart(_errors, setting, watch=watch)
    for i, phase in enumerate(_PHASES):
        row: dict[str, Any] = {"setting": setting.name, "phase": phase, "what": setting.sentence, "unit": "tokens/s", **errors}
        if errors["agree"]:

            def inner(done: float, note: str, i: int = i, phase: str = phase) -> None:
                watch(0.1 + 0.45 * (i + done), f"{phase}, {note}")

            row |= apart(_measured, setting, phase, plan, watch=inner)
        yield row


def _errors(setting: Setting, watch: Watch) -> dict[str, Any]:
    return agreement(pair(setting))


def agreement(both: Pair) -> dict[str, Any]:
    """The relative errors of the outputs and of all gradients, and whether they are small enough to go on."""
    outputs, exact, gradients = output_error(both), exact_output_error(both.setting), gradient_errors(both)
    worst = max(gradients.values())
    agree = outputs <= OUTPUT_TOLERANCE and exact <= EXACT_TOLERANCE and worst <= GRADIENT_TOLERANCE
    return {"max_rel_error": outputs, "max_rel_error_float64": exact, "max_rel_error_gradients": worst, "agree": agree}


def _measured(setting: Setting, phase: Literal["forward", "train"], plan: Plan, watch: Watch) -> dict[str, Any]:
    both = pair(setting)
    call = forward if phase == "forward" else train_step
    contenders = {"ours": call(both.ours, both.x), "peer": call(both.peer, both.x), "sgemm": sgemm()}
    times = in_turns(contenders, plan.repeats, plan.warm_ups, lambda done, note: watch(0.8 * done, note))
    for layer in (both.ours, both.peer):
        layer.zero_grad(set_to_none=True)
    ours, peer = (times[name].rates(setting.time) for name in ("ours", "peer"))
    peaks = {}
    for i, name in enumerate(("ours", "peer")):
        watch(0.8 + 0.1 * i, f"peak memory of {name}")
        peaks[name] = run_apart(Job(contender=name, setting=setting, phase=phase))
    targets = SETTINGS[setting.name].targets
    ratio, peak_ratio = ours["median"] / peer["median"], peaks["ours"].peak_mb / peaks["peer"].peak_mb
    target, peak_target = (targets.forward, None) if phase == "forward" else (targets.train, targets.peak)
    return {
        "ours": ours["median"],
        "ours_min": ours["min"],
        "ours_max": ours["max"],
        "peer": peer["median"],
        "peer_min": peer["min"],
        "peer_max": peer["max"],
        "ratio": ratio,
        "target": target,
        "reached": None if target is None else ratio >= target,
        "ours_peak_mb": peaks["ours"].peak_mb,
        "peer_peak_mb": peaks["peer"].peak_mb,
        "peak_ratio": peak_ratio,
        "peak_target": peak_target,
        "peak_reached": None if peak_target is None else peak_ratio <= peak_target,
        "peak_exact": peaks["ours"].exact,
        "sgemm_gflops": times["sgemm"].rates(SGEMM_FLOPS / 1e9)["median"],
    }
