"""What a text memory costs beside its embedder: observations and questions a second, opening a memory of many records, and the weights on disk."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retain.text import MemoryConfig, TextMemory
from retain.text.records import Observed, Record

from .apart import apart
from .plan import Plan
from .timing import Watch

DIM, WIDTH, FEW, MANY = 512, 384, 100, 20_000
OBSERVED, INFERRED, OPENED = 200.0, 300.0, 0.3  # a second, a second, and seconds of the processor
CALLS = 100  # of a round


def measure_text(plan: Plan, watch: Watch) -> dict[str, Any]:
    """A memory of ``DIM`` channels with an embedder that costs nothing, in a fresh process, by processor time."""
    return apart(measure_memory, MANY // 100 if plan.quick else MANY, plan.repeats, watch=watch)


def measure_memory(many: int, repeats: int, watch: Watch) -> dict[str, Any]:
    """What ``measure_text`` says, of a memory of ``FEW`` records, and of one of ``many``."""
    torch.set_num_threads(1)  # a second one would only wait for the first, and waiting takes a processor's time, too
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for part, records in enumerate((FEW, many)):
            folder, texts = Path(temporary) / str(records), (f"text {i}" for i in count(records))
            watch(part / 2, f"putting {records:,} records in place")
            _filled(folder, records)
            watch(part / 2 + 0.4, f"with {records:,} records")
            rows.append({"records": records, **_row(folder, texts, repeats)})
    few, most = rows
    targets = {
        "observed_a_second": (OBSERVED, few["observed_a_second"]["median"] >= OBSERVED),
        "inferred_a_second": (INFERRED, few["inferred_a_second"]["median"] >= INFERRED),
        "opened_in": (OPENED, most["opened_in"]["median"] <= OPENED),
        "weights_bytes": (few["weights_bytes"], few["weights_bytes"] == most["weights_bytes"]),
    }
    judged = {name: {"target": target, "reached": reached} for name, (target, reached) in targets.items()}
    return {"what": f"dim {DIM}, embeddings of {WIDTH} numbers made beforehand, one thread, processor time", "rows": rows, "judged": judged}


@dataclass(frozen=True)
class _Known:
    """Vectors that are made already, by the number that a text ends with."""

    vectors: Tensor

    identity = "precomputed"
    width = WIDTH

    def embed(self, texts: Sequence[str]) -> Tensor:
        return self.vectors[[int(text.rsplit(" ", 1)[1]) % len(self.vectors) for text in texts]]


def _embedder() -> _Known:
    return _Known(torch.randn(4096, WIDTH, generator=torch.Generator().manual_seed(0)))


def _opened(folder: Path) -> TextMemory:
    return TextMemory.open(folder, MemoryConfig(dim=DIM), embedder=_embedder())


def _filled(folder: Path, records: int) -> None:
    """A memory that has learnt ``FEW`` texts, and has so many beside it."""
    grid = torch.randint(-127, 128, (records, WIDTH), generator=torch.Generator().manual_seed(1), dtype=torch.int8)
    with _opened(folder) as memory:
        for i in range(FEW):
            memory.observe(f"text {i}")
        opened = memory._opened
        with opened.changing():
            learner = opened.current()
            rows = [_observed(i + 1, row.numpy().tobytes()) for i, row in enumerate(grid) if i >= FEW]
            opened.records.put(rows)
            learner.patterns.extend([row.id for row in rows], grid[FEW:], grid[FEW:])
            learner.count = records
            opened.become(learner, records)


def _observed(number: int, key: bytes) -> Record:
    seen = Observed(text=f"text {number}", associate=None, time=0.0, metadata="{}", key=key, value=key, learning_rate=0.01)
    return Record(id=number, observed=seen, surprise=0.0)


def _row(folder: Path, texts: Iterator[str], repeats: int) -> dict[str, Any]:
    opening = [_seconds(lambda: _opened(folder), 1) for _ in range(repeats)]
    with _opened(folder) as memory:
        memory.observe(next(texts))
        memory.infer(next(texts))
        observing = [CALLS / _seconds(lambda: memory.observe(next(texts)), CALLS) for _ in range(repeats)]
        inferring = [CALLS / _seconds(lambda: memory.infer(next(texts)), CALLS) for _ in range(repeats)]
    parts = {"observed_a_second": observing, "inferred_a_second": inferring, "opened_in": opening}
    weights = sum(path.stat().st_size for path in folder.glob("weights-*"))
    return {"weights_bytes": weights, **{name: {"median": statistics.median(x), "min": min(x), "max": max(x)} for name, x in parts.items()}}


def _seconds(call: Callable[[], object], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        call()
    return time.process_time() - start
