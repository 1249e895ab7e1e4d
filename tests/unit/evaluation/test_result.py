"""Results as JSON: what is something else is refused by name."""

from __future__ import annotations

import json

import pytest

from retain.evaluation import Cost, Perplexity, Recall

COST = Cost(title="Cost", parameters=12, batch=1, rows=(), about={"device": "cpu"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "this is not JSON"),
        ("[]", "this is of kind None, format None"),
        (COST.to_json(), "Recall reads results of kind 'recall', format 1; this is of kind 'cost'"),
        (json.dumps({"kind": "recall", "format": 2}), "this is of kind 'recall', format 2"),
        (json.dumps({"kind": "recall", "format": 1}), "damaged result of kind 'recall': 'outcomes'"),
        (json.dumps({"kind": "recall", "format": 1, "outcomes": [], "controls": [], "quark": 1}), "damaged result of kind 'recall'"),
    ],
)
def test_what_is_no_such_result_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recall.from_json(text)


def test_json_names_its_kind_and_is_what_it_was() -> None:
    data = json.loads(COST.to_json())
    assert (data["kind"], data["format"], data["about"]) == ("cost", 1, {"device": "cpu"})
    assert Cost.from_json(COST.to_json()) == COST
    assert len({Cost.kind, Recall.kind, Perplexity.kind}) == 3
