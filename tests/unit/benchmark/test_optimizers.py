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
    """With calls that are counted instead of timed: ten steps take 10, 20, 24, 30 and 60 seconds."""
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
        return {name: Times((taken,)) for name, taken in zip(contenders, (10.0, 20.0, 24.0, 30.0, 60.0), strict=True)}

    monkeypatch.setattr(optimizers, "in_turns", in_turns)
    found = optimizers.measure_optimizers(QUICK, quiet)
    assert set(steps.values()) == {10}
    assert [(row["optimizer"], row["products"], row["seconds_per_step"], row.get("m3_takes"), row.get("reached")) for row in found["rows"]] == [
        ("torch's Muon", "bfloat16", 1.0, 2.4, False),
        ("Muon", "bfloat16", 2.0, 1.2, True),
        ("M3", "bfloat16", 2.4, None, None),
        ("Muon", "float32", 3.0, 2.0, False),
        ("M3", "float32", 6.0, None, None),
    ]


def test_a_quick_measurement_takes_real_steps() -> None:
    rows = optimizers.measure_optimizers(QUICK, quiet)["rows"]
    assert all(0 < row["min"] <= row["seconds_per_step"] <= row["max"] for row in rows)


def test_a_torch_without_muon_is_one_line_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(JobFailed, match=r"torch>=2\.9"):
        optimizers.measure_optimizers(QUICK, quiet)
