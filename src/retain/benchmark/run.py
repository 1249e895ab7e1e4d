"""The whole benchmark: part after part, into one value that JSON can hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .comparison import compare_settings
from .decoding import measure_decoding
from .delta_rule import measure_delta_rule
from .flops import measure_flops
from .growth import measure_growth
from .hope import measure_hope
from .job import THREADS, JobFailed
from .machine import surroundings
from .memories import measure_memories
from .optimizers import measure_optimizers
from .peer import peer_package
from .plan import PARTS, Plan
from .retrofit import measure_retrofit
from .streaming import measure_long_training, measure_streaming
from .text import measure_text
from .timing import SGEMM_FLOPS, Watch, in_turns, sgemm

Measure = Callable[[Plan, Watch], dict[str, Any]]

MEASURES: dict[str, Measure] = dict(
    zip(
        PARTS,
        (
            compare_settings,
            measure_decoding,
            measure_flops,
            measure_streaming,
            measure_long_training,
            measure_growth,
            measure_memories,
            measure_delta_rule,
            measure_optimizers,
            measure_hope,
            measure_retrofit,
            measure_text,
        ),
        strict=True,
    )
)


def run(plan: Plan, command: str, watch: Callable[[str, float, str], None]) -> dict[str, Any]:
    """Measure what the plan says.

    Args:
        plan: What to measure.
        command: How it was asked for, to stand in the results.
        watch: Is told the part, how far it is (0 to 1), and what is being done.

    Returns:
        Results for ``report``: ``rows`` (settings and decoding against the peer), a mapping for each further part, ``failures`` in
        words, and where it was all measured.

    Raises:
        PeerMissing: The library to compare with is not installed.
    """
    peer_package()
    results: dict[str, Any] = surroundings(command) | {"repeats": plan.repeats, "quick": plan.quick, "complete": plan.complete}
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        speed = in_turns({"sgemm": sgemm()}, 10, 3, lambda done, note: None)["sgemm"].rates(SGEMM_FLOPS / 1e9)
        results |= {"sgemm_gflops": speed["median"], "rows": [], "failures": []}
        for part in PARTS:
            if part in plan.parts:
                _add(part, plan, results, lambda done, note, part=part: watch(part, done, note))
    finally:
        torch.set_num_threads(before)
    return results


def _add(part: str, plan: Plan, results: dict[str, Any], watch: Watch) -> None:
    """Measure a part into the results. One that breaks down leaves a sentence and takes nothing along."""
    try:
        found = MEASURES[part](plan, watch)
    except JobFailed as failure:
        results["failures"].append(f"{part}: {failure}")
        results["complete"] = False
        watch(1.0, "failed")
        return
    if part in ("settings", "decoding"):
        results["rows"] += found.pop("rows")
    if found:
        results[part] = found
    watch(1.0, "done")
