"""What a token costs as the call gets longer: our memory, the peer's, and attention."""

from __future__ import annotations

import statistics
from typing import Any

from .job import Contender, Job, JobFailed, run_apart
from .plan import Plan
from .settings import SETTINGS, Setting
from .timing import Watch

LENGTHS = (1_024, 4_096, 16_384, 32_768, 65_536)
QUICK_LENGTHS = (256, 512, 1_024)
MOST_SECONDS, MOST_MB = 20.0, 12_000.0
REPEAT_FOR = 1.0  # seconds
# A line of the figure: who, in which setting, and the power of the length with which its time and memory are taken to grow when the next is foretold.
LINES: tuple[tuple[str, Contender, Setting, int], ...] = (
    ("ours", "ours", SETTINGS["A"], 1),
    ("peer", "peer", SETTINGS["A"], 1),
    ("ours, a step per 64 tokens", "ours", SETTINGS["C"], 1),
    ("peer, a step per 64 tokens", "peer", SETTINGS["C"], 1),
    ("attention", "attention", SETTINGS["A"], 2),
)


def measure_growth(plan: Plan, watch: Watch) -> dict[str, Any]:
    """Seconds and peak bytes per token of a forward call without gradients. A length that would take too long or too much memory is said, not measured."""
    rows: list[dict[str, Any]] = []
    lengths = QUICK_LENGTHS if plan.quick else LENGTHS
    for i, (name, contender, setting, power) in enumerate(LINES):
        last: dict[str, Any] | None = None
        for j, time in enumerate(lengths):
            watch((i + j / len(lengths)) / len(LINES), f"{name}, {time:,} tokens")
            row: dict[str, Any] = {"contender": name, "setting": setting.name, "tokens": time}
            skipped = None if last is None else _too_much(last, time, power)
            if skipped is None:
                row |= _measured(contender, setting.at(time))
            else:
                row["skipped"] = skipped
            rows.append(row)
            if "skipped" in row:
                rows += [{**row, "tokens": later} for later in lengths[j + 1 :]]
                break
            last = row
    return {"what": "forward call without gradients, memory above what was resident before", "rows": rows}


def _measured(contender: Contender, setting: Setting) -> dict[str, Any]:
    try:
        outcome = run_apart(Job(contender=contender, setting=setting, phase="forward", calls=2, seconds=REPEAT_FOR), timeout=10 * MOST_SECONDS)
    except JobFailed as failure:
        return {"skipped": f"failed: {failure}"}
    warm = outcome.seconds[1:] or outcome.seconds
    return {"seconds_per_token": statistics.median(warm) / setting.time, "peak_mb": outcome.peak_mb, "mb_per_token": outcome.peak_mb / setting.time}


def _too_much(last: dict[str, Any], time: int, power: int) -> str | None:
    """Why the next length is left out, foretold from the last one; None if it is not."""
    longer = time / last["tokens"]
    seconds, mb = last["seconds_per_token"] * last["tokens"] * longer**power, last["peak_mb"] * longer
    if seconds > MOST_SECONDS:
        return f"would take about {seconds:.0f} s, more than {MOST_SECONDS:.0f} s"
    if mb > MOST_MB:
        return f"would take about {mb / 1000:.0f} GB, more than {MOST_MB / 1000:.0f} GB"
    return None
