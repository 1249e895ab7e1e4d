"""Training steps of Hope beside those of an LMM."""

import pytest

from retain.benchmark import hope
from retain.benchmark.plan import Plan


def test_models_of_equal_size_are_trained_and_hope_alone_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("TIME", 256), ("ROWS", 1), ("DIM", 16), ("HIDDEN", 40)):
        monkeypatch.setattr(hope, name, size)
    noted: list[float] = []
    rows = hope.measure_hope(Plan(parts=("hope",), repeats=1, quick=True), lambda done, note: noted.append(done))["rows"]
    assert [(row["model"], row["chunk"]) for row in rows] == [(name, chunk) for chunk in (16, 64) for name in ("LMM", "Hope", "Hope, levels still")]
    assert all(row["tokens_per_second_median"] > 0 for row in rows)
    assert [row["reached"] is not None for row in rows] == [False, True, False] * 2
    assert all(row["reached"] == (row["times_lmm"] <= 4) for row in rows if row["reached"] is not None)
    assert max(noted) <= 1.0


def test_sizes_are_equal_within_half_a_per_cent() -> None:
    sizes = [sum(w.numel() for w in hope.RetainForCausalLM(hope.RetainConfig(**given)).parameters()) for given in hope._models(16).values()]
    assert max(sizes) <= 1.005 * min(sizes)
