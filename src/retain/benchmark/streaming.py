"""Streams without end, and training over long ones."""

from __future__ import annotations

import statistics
from typing import Any

from .job import Job, run_apart
from .plan import Plan
from .settings import SETTINGS
from .timing import Watch

CALL = 4096
SHORT, LONG = 65_536, 1_000_000
MORE_MEMORY, SLOWER = 1.10, 0.85
TRAIN_TIME, TRAIN_MB = 16_384, 1000.0


def measure_streaming(plan: Plan, watch: Watch) -> dict[str, Any]:
    """Peak memory and speed of reading a million tokens in calls of ``CALL``, against reading the first 65,536."""
    setting = SETTINGS["A"].at(CALL)
    short, long = (4 * CALL, 16 * CALL) if plan.quick else (SHORT, LONG)
    turns = [short, long] if plan.quick else [short, long, short]
    outcomes: dict[int, list[Any]] = {short: [], long: []}
    for i, tokens in enumerate(turns):
        watch((0.0, 0.1, 0.9)[i], f"{tokens:,} tokens")
        outcomes[tokens].append(run_apart(Job(contender="ours", setting=setting, phase="stream", tokens=tokens)))
    rate = {n: n / statistics.mean(sum(outcome.seconds) for outcome in found) for n, found in outcomes.items()}
    peak = {n: max(outcome.peak_mb for outcome in found) for n, found in outcomes.items()}
    more, slower = peak[long] / peak[short], rate[long] / rate[short]
    return {
        "what": f"{setting.sentence.rsplit(',', 1)[0]}, calls of {CALL}",
        "short": {"tokens": short, "tokens_per_second": rate[short], "peak_mb": peak[short]},
        "long": {"tokens": long, "tokens_per_second": rate[long], "peak_mb": peak[long]},
        "peak_ratio": more,
        "peak_target": MORE_MEMORY,
        "peak_reached": more <= MORE_MEMORY,
        "speed_ratio": slower,
        "speed_target": SLOWER,
        "speed_reached": slower >= SLOWER,
    }


def measure_long_training(plan: Plan, watch: Watch) -> dict[str, Any]:
    """Peak memory of one train step over a long call, most of whose intermediate results are computed twice rather than kept."""
    setting = SETTINGS["A"].at(TRAIN_TIME // 4 if plan.quick else TRAIN_TIME)
    watch(0.0, f"a train step over {setting.time:,} tokens")
    outcome = run_apart(Job(contender="ours", setting=setting, phase="train"))
    return {
        "what": setting.sentence,
        "tokens": setting.time,
        "tokens_per_second": setting.time / outcome.seconds[0],
        "peak_mb": outcome.peak_mb,
        "peak_target_mb": TRAIN_MB,
        "reached": outcome.peak_mb <= TRAIN_MB,
    }
