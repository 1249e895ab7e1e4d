"""Any structure with any bias, any retention gate and any learner: it runs as the oracle says, or is refused with a sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from retain import MemoryRule
from tests.cases import BIASES, CLOCKS, JUDGE, LEARNERS, PRESETS, RETENTIONS, STRUCTURES, Case, willing
from tests.streams import Outcome, World, assert_equals_oracle, calls, run, world, worlds


@st.composite
def rules(draw: st.DrawFn) -> MemoryRule | str:
    """One from the whole product of parts and clocks, or the sentence that refuses it."""
    clocks = dict(draw(st.sampled_from(CLOCKS)))
    structure, bias, retention, learner = (draw(st.sampled_from(parts)) for parts in (STRUCTURES, BIASES, RETENTIONS, LEARNERS))
    try:
        return MemoryRule(structure=structure, bias=bias, retention=retention, learner=learner, **clocks)
    except ValueError as refusal:
        return str(refusal)


@settings(max_examples=60)
@given(data=st.data())
def test_what_can_be_combined_runs_as_the_oracle_says_and_the_rest_is_refused_with_a_sentence(data: st.DataObject) -> None:
    rule = data.draw(rules())
    if isinstance(rule, str):
        assert _teaches(rule)
        return
    here = data.draw(worlds(Case(name="drawn", rule=rule), longest=8))
    found = _by_the_oracle(here)
    if isinstance(found, str):  # refused by the widths of the memory, which the rule does not know
        assert _teaches(found)
        return
    assume(not any(bool((x.double().abs() > 50).any()) for x in found.tensors().values()))  # what runs away multiplies rounding, or overflows
    engine = data.draw(st.sampled_from(willing(rule)))
    assert_equals_oracle(here, [engine], data.draw(calls(here.lengths)))


def _by_the_oracle(here: World) -> Outcome | str:
    """What comes of it, or what the oracle has against running it."""
    try:
        return run(here, [JUDGE])
    except ValueError as refusal:
        return str(refusal)


def _teaches(refusal: str) -> bool:
    return len(refusal.split()) > 8 and refusal.endswith(".")


@pytest.mark.parametrize("name", PRESETS)
def test_a_token_never_reaches_back(name: str) -> None:
    """What comes later leaves what came out before as it was, to the last bit."""
    here = world(PRESETS[name], 0, batch=2, time=9)
    other = world(PRESETS[name], 1, batch=2, time=9)
    for engine in (*willing(here.rule)[:1], JUDGE):
        whole = run(here, [engine]).y
        for t in (4, 7):
            later = {n: x[:, t:] for n, x in vars(other.tokens).items() if x is not None}
            joined = {n: x.clone().index_copy_(1, _places(t, 9), later[n]) for n, x in vars(here.tokens).items() if x is not None}
            assert (run(replace(here, tokens=replace(here.tokens, **joined)), [engine]).y[:, :t] == whole[:, :t]).all()


def _places(first: int, stop: int) -> torch.Tensor:
    return torch.arange(first, stop)
