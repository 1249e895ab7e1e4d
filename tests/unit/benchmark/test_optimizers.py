"""Steps of M3 and of what it is measured against."""

from collections.abc import Callable

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from retain.benchmark import optimizers
from retain.benchmark.job import JobFailed
from retain.benchmark.plan import Plan
from retain.benchmark.timing import Times, Watch

QUICK = Plan(parts=("optimizers",), repeats=1, quick=True)


def quiet(done: float, note: str) -> None: ...


def test_each_optimizer_takes_as_many_steps_and_m3_is_set_beside_each_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With calls that are counted instead of timed: the n-th takes 10, 20, 30, 44 seconds."""
    steps: dict[str, int] = {}

    def in_turns(contenders: dict[str, Callable[[], None]], repeats: int, warm_ups: int, watch: Watch) -> dict[str, Times]:
        for name, call in contenders.items():
            counted = 0

            def count(*_: object) -> None:
                nonlocal counted
                counted += 1

            handle = register_optimizer_step_post_hook(count)
            call()
            handle.remove()
            steps[name] = counted
        return {name: Times((taken,)) for name, taken in zip(contenders, (10.0, 20.0, 30.0, 44.0), strict=True)}

    monkeypatch.setattr(optimizers, "in_turns", in_turns)
    found = optimizers.measure_optimizers(QUICK, quiet)
    assert steps == {"torch's AdamW": 10, "torch's Muon": 10, "Muon": 10, "M3": 10}
    assert [row["seconds_per_step"] for row in found["rows"]] == [1.0, 2.0, 3.0, 4.4]
    assert [row.get("m3_takes") for row in found["rows"]] == [4.4, 2.2, pytest.approx(44 / 30), None]
    assert [row.get("reached") for row in found["rows"]] == [None, False, True, None]


def test_a_quick_measurement_takes_real_steps() -> None:
    rows = optimizers.measure_optimizers(QUICK, quiet)["rows"]
    assert all(0 < row["min"] <= row["seconds_per_step"] <= row["max"] for row in rows)


def test_a_torch_without_muon_is_one_line_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(JobFailed, match=r"torch>=2\.9"):
        optimizers.measure_optimizers(QUICK, quiet)
