"""No engine changes the answer: outputs, surprise, state and every gradient are the oracle's, however the stream is cut."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import CASES, CHOSEN, JUDGE, Case, pairs_of, willing
from tests.streams import assert_equals_oracle, assert_same, calls, run, world, worlds


def _settings_of(case: Case, name: str) -> list:
    return [engine for engine in willing(case.rule) if engine.name == name]


@pytest.mark.parametrize(("case", "name"), pairs_of(CASES), ids=str)
@given(data=st.data())
def test_any_calls_equal_one_call_of_the_oracle(case: Case, name: str, data: st.DataObject) -> None:
    world, engine = data.draw(worlds(case)), data.draw(st.sampled_from(_settings_of(case, name)))
    assert_equals_oracle(world, [engine], data.draw(calls(world.lengths)))


@pytest.mark.parametrize(("case", "name"), pairs_of(CHOSEN), ids=str)
@given(data=st.data())
def test_one_call_equals_the_oracle(case: Case, name: str, data: st.DataObject) -> None:
    world, engine = data.draw(worlds(case, longest=20)), data.draw(st.sampled_from(_settings_of(case, name)))
    assert_equals_oracle(world, [engine])


@pytest.mark.parametrize("case", CHOSEN, ids=str)
@given(data=st.data())
def test_engines_may_take_turns_in_the_middle_of_a_stream(case: Case, data: st.DataObject) -> None:
    world = data.draw(worlds(case))
    turns = data.draw(st.lists(st.sampled_from([JUDGE, *willing(case.rule)]), min_size=2, max_size=4))
    assert_equals_oracle(world, turns, data.draw(calls(world.lengths)))


@pytest.mark.parametrize(("case", "name"), pairs_of(CHOSEN), ids=str)
def test_an_engine_goes_on_where_the_oracle_stopped_in_the_middle_of_a_segment(case: Case, name: str) -> None:
    """The oracle folds each step at once and leaves nothing to wait; the rest is longer than a segment, and all rows stand alike."""
    here = world(case.rule, 2, batch=2, time=13)
    expected = run(here, [JUDGE])
    for engine in _settings_of(case, name):
        for first in (1, 3):
            assert_same(run(here, [JUDGE, engine], [[first] * 2, [13 - first] * 2]), expected)


@pytest.mark.parametrize("case", CHOSEN, ids=str)
@given(data=st.data())
def test_the_oracle_itself_may_be_called_in_any_way(case: Case, data: st.DataObject) -> None:
    world = data.draw(worlds(case))
    assert_equals_oracle(world, [JUDGE], data.draw(calls(world.lengths)))


@pytest.mark.parametrize(("case", "name"), pairs_of(CHOSEN), ids=str)
@given(data=st.data())
def test_gradients_stopped_at_boundaries_are_the_oracles(case: Case, name: str, data: st.DataObject) -> None:
    willing_to_stop = [engine for engine in _settings_of(case, name) if hasattr(engine, "backprop")]
    if willing_to_stop:
        world, engine = data.draw(worlds(case)), data.draw(st.sampled_from(willing_to_stop))
        assert_equals_oracle(world, [replace(engine, backprop="segment")], data.draw(calls(world.lengths)))


@pytest.mark.parametrize(("case", "name"), pairs_of(CHOSEN), ids=str)
@given(data=st.data())
def test_an_answer_does_not_depend_on_whether_gradients_are_wanted(case: Case, name: str, data: st.DataObject) -> None:
    world, engine = data.draw(worlds(case)), data.draw(st.sampled_from(_settings_of(case, name)))
    way = data.draw(calls(world.lengths))
    assert_same(run(world, [engine], way), run(world.leaves(), [JUDGE]))
