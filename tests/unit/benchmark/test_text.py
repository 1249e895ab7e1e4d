"""A text memory is measured, with few records and with many."""

import pytest

from retain.benchmark import text
from retain.benchmark.report import markdown


def test_a_memory_is_measured_and_its_weights_keep_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("DIM", 16), ("FEW", 3), ("CALLS", 2), ("OBSERVED", 1e9)):
        monkeypatch.setattr(text, name, size)
    found = text.measure_memory(20, 2, lambda done, note: None)
    few, many = found["rows"]
    assert (few["records"], many["records"]) == (3, 20)
    assert few["weights_bytes"] == many["weights_bytes"] > 3 * 16 * 16 * 4
    assert found["judged"]["weights_bytes"]["reached"]
    assert not found["judged"]["observed_a_second"]["reached"]
    page = markdown({"rows": [], "quick": False, "text": found})
    assert "## A text memory" in page
    assert "target 1e+09 at least: **not reached**" in page
