"""What no engine may let happen: the future reaching back, rows meeting, padding or unwritten memory leaking, a clock losing count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from retain.core.engine import AbstractEngine
from retain.core.tokens import Tokens
from tests.cases import CHOSEN, CLOCKED, JUDGE, Case, pairs_of, willing
from tests.streams import World, assert_same, calls, gradients, plain, run, settled, stretch_of, world, worlds
from tests.tolerances import ROWS, assert_near

# Engines are the oracle's equals in every case, so the oracle is tried where streams differ to it: with each clock.
RUNS = [*pairs_of(CHOSEN), *((case, JUDGE.name) for case in CHOSEN if case.name in CLOCKED)]


def _drawn_engine(case: Case, name: str, data: st.DataObject) -> AbstractEngine:
    return data.draw(st.sampled_from([engine for engine in (*willing(case.rule), JUDGE) if engine.name == name]))


def _changed_from(tokens: Tokens, at: int, seed: int) -> Tokens:
    """The tokens with everything about token ``at`` and those behind it replaced."""
    source = torch.Generator().manual_seed(seed)

    def change(t: Tensor) -> Tensor:
        new = torch.rand(t.shape, generator=source, dtype=torch.float64)
        return torch.cat([t[:, :at], (~t if t.dtype == torch.bool else new.to(t.dtype))[:, at:]], dim=1)

    return tokens.map(change)


@pytest.mark.parametrize(("case", "name"), RUNS, ids=str)
@given(data=st.data())
def test_the_future_leaves_earlier_answers_bitwise_alone(case: Case, name: str, data: st.DataObject) -> None:
    here, engine = data.draw(worlds(case, ragged=False)), _drawn_engine(case, name, data)
    at = data.draw(st.integers(0, here.tokens.time))
    y, _, surprise = engine.run(here.rule, here.tokens, here.start)
    changed, _, changed_surprise = engine.run(here.rule, _changed_from(here.tokens, at, seed=here.seed), here.start)
    assert torch.equal(y[:, :at], changed[:, :at])
    assert torch.equal(surprise[:, :at], changed_surprise[:, :at])


@pytest.mark.parametrize(("case", "name"), RUNS, ids=str)
@given(data=st.data())
def test_a_row_does_not_notice_what_it_is_batched_with(case: Case, name: str, data: st.DataObject) -> None:
    """The rows begin at different clocks; each goes on alone as it went on in company."""
    here, engine = data.draw(worlds(case, masked=False)), _drawn_engine(case, name, data)
    state = here.start
    if bool(here.lengths.any()):
        _, state, _ = engine.run(here.rule, here.tokens, state, here.lengths)
    more = world(here.rule, here.seed + 7, batch=state.batch, time=5, heads=here.tokens.k.shape[2], **_widths(here)).tokens
    y, after, surprise = engine.run(here.rule, more, state)
    for b in range(state.batch):
        row = slice(b, b + 1)
        alone, alone_after, alone_surprise = engine.run(here.rule, more.map(lambda t, row=row: t[row]), state[row])
        assert_near(y[row], alone, ROWS, "outputs")
        assert_near(surprise[row], alone_surprise, ROWS, "surprise")
        one = replace(here, tokens=here.tokens.map(lambda t, row=row: t[row]))
        ours, theirs = (settled(one, s, engine) for s in (after[row], alone_after))
        for field in ("anchor", "accumulator"):
            for weight, value in getattr(theirs, field).items():
                assert_near(getattr(ours, field)[weight], value, ROWS, f"{field} {weight}")


def _widths(here: World) -> dict[str, int]:
    return {"key": here.tokens.k.shape[4], "value": here.tokens.v.shape[4], "pairs": here.tokens.k.shape[3]}


@pytest.mark.parametrize(("case", "name"), RUNS, ids=str)
@given(data=st.data())
def test_a_broken_row_breaks_no_other(case: Case, name: str, data: st.DataObject) -> None:
    sound, engine = data.draw(worlds(case, masked=False)), _drawn_engine(case, name, data)
    broken = replace(sound, tokens=sound.tokens.map(lambda t: torch.cat([t[:-1], torch.full_like(t[-1:], torch.nan)])))
    expected, got = run(sound, [engine]), run(broken, [engine])
    assert torch.equal(got.y[:-1], expected.y[:-1])
    assert torch.equal(got.surprise[:-1], expected.surprise[:-1])
    assert got.state[:-1].hash() == expected.state[:-1].hash()


@pytest.mark.parametrize(("case", "name"), RUNS, ids=str)
@given(data=st.data())
def test_padding_is_never_looked_at(case: Case, name: str, data: st.DataObject) -> None:
    """NaN behind a row's last token changes no answer, no state and no gradient."""
    here, engine = data.draw(worlds(case)), _drawn_engine(case, name, data)
    behind = torch.arange(here.tokens.time) >= here.lengths[:, None]

    def spoil(t: Tensor) -> Tensor:
        at = behind.reshape(behind.shape + (1,) * (t.ndim - 2))
        return t | at if t.dtype == torch.bool else torch.where(at, torch.nan, t)

    clean, spoilt = here.leaves(), replace(here, tokens=here.tokens.map(spoil)).leaves()
    expected, got = run(clean, [engine]), run(spoilt, [engine])
    assert_same(got, expected)
    found = gradients(spoilt, got)
    for weight, value in gradients(clean, expected).items():
        assert_near(found[weight], value, ROWS, f"gradient of {weight}")


@pytest.fixture
def nan_in_fresh_memory() -> Iterator[None]:
    """Memory that was allocated but not written to holds NaN."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory  # pyright: ignore[reportAttributeAccessIssue]
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # pyright: ignore[reportAttributeAccessIssue]
    assert bool(torch.isnan(torch.empty(3)).all())
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("case", CHOSEN, ids=str)
@pytest.mark.usefixtures("nan_in_fresh_memory")
def test_no_memory_is_read_before_it_is_written(case: Case) -> None:
    for seed, engine in enumerate((*willing(case.rule), JUDGE)):
        here = world(case.rule, seed, batch=2, time=7, pairs=2).cut([7, 5], masked=True).leaves()
        outcome = run(here, [engine], [[4, 3], [3, 2]])
        for path, value in {**outcome.tensors(), **gradients(here, outcome)}.items():
            assert bool(torch.isfinite(value.double()).all()), f"{engine}: {path}"


@pytest.mark.parametrize(("case", "name"), RUNS, ids=str)
@given(data=st.data())
def test_a_token_that_is_not_written_takes_no_step(case: Case, name: str, data: st.DataObject) -> None:
    """A stretch without a written token moves the clock, and at boundaries the anchor, but neither weights nor momentum; its own gates say nothing."""
    here, engine = data.draw(worlds(case, masked=False)), _drawn_engine(case, name, data)
    silent = here.cut(here.lengths.tolist(), masked=False)
    silent = replace(silent, tokens=replace(silent.tokens, write=torch.zeros(here.tokens.batch, here.tokens.time, dtype=torch.bool)))
    state = run(silent, [engine], data.draw(calls(here.lengths))).state
    for weight, value in here.start.accumulator.items():
        assert torch.equal(state.accumulator[weight], value)
    for moment in state.moments:
        assert not any(bool(part.any()) for part in moment.values())
    assert torch.equal(state.clock, here.lengths)


@pytest.mark.parametrize(("case", "name"), RUNS, ids=str)
@given(data=st.data())
def test_what_an_unwritten_token_holds_is_never_learnt(case: Case, name: str, data: st.DataObject) -> None:
    here, engine = data.draw(worlds(case, ragged=False)), _drawn_engine(case, name, data)
    write = here.tokens.written
    source = torch.Generator().manual_seed(here.seed)

    def other(t: Tensor) -> Tensor:
        return torch.where(write[:, :, None, None, None], t, torch.randn(t.shape, generator=source, dtype=t.dtype))

    changed = replace(here, tokens=replace(here.tokens, k=other(here.tokens.k), v=other(here.tokens.v), write=write))
    expected, got = run(here, [engine]), run(changed, [engine])
    assert_near(got.y, expected.y, ROWS, "outputs")
    for weight, value in expected.state.accumulator.items():
        assert_near(got.state.accumulator[weight], value, ROWS, weight)


@pytest.mark.parametrize(("case", "name"), RUNS, ids=str)
def test_reading_nothing_changes_nothing(case: Case, name: str) -> None:
    for engine in (engine for engine in (*willing(case.rule), JUDGE) if engine.name == name):
        here = world(case.rule, 3, batch=2, time=7, pairs=2)
        _, state, _ = engine.run(case.rule, here.tokens, here.start)
        nothing = here.tokens.map(lambda t: t[:, :0])
        y, after, surprise = engine.run(case.rule, nothing, state)
        assert y.shape == (2, 0, 2, 3)
        assert surprise.shape == (2, 0, 2)
        assert settled(here, after, engine).hash() == settled(here, state, engine).hash()
        fresh = engine.run(case.rule, nothing, here.start)[1]
        assert here.start.hash() == fresh.hash()


@pytest.mark.parametrize(("case", "name"), RUNS, ids=str)
def test_a_row_without_tokens_of_its_own_stays_as_it_is(case: Case, name: str) -> None:
    for engine in (engine for engine in (*willing(case.rule), JUDGE) if engine.name == name):
        here = world(case.rule, 5, batch=3, time=6)
        _, state, _ = engine.run(case.rule, here.tokens, here.start, torch.tensor([6, 3, 5]))
        counts = torch.tensor([4, 0, 2])
        _, after, _ = engine.run(case.rule, stretch_of(here.tokens, torch.zeros(3, dtype=torch.long), counts), state, counts)
        ours, before = (settled(here, s, engine) for s in (after, state))
        assert torch.equal(ours.clock, before.clock + counts)
        for field in ("anchor", "accumulator"):
            for weight, value in getattr(before, field).items():
                assert torch.equal(getattr(ours, field)[weight][1], value[1])
                assert not torch.equal(getattr(ours, "accumulator")[weight][0], before.accumulator[weight][0])  # noqa: B009


@pytest.mark.parametrize(("case", "name"), RUNS, ids=str)
def test_rows_of_which_none_has_a_token_stay_as_they_are(case: Case, name: str) -> None:
    """A call may be all padding, however long it is."""
    for engine in (engine for engine in (*willing(case.rule), JUDGE) if engine.name == name):
        here = world(case.rule, 5, batch=2, time=6)
        _, state, _ = engine.run(case.rule, here.tokens, here.start)
        _, after, _ = engine.run(case.rule, here.tokens, state, torch.tensor([0, 0]))
        assert settled(here, after, engine).hash() == settled(here, state, engine).hash()


@pytest.mark.parametrize(("case", "name"), RUNS, ids=str)
def test_rows_that_are_all_shorter_than_the_call_end_where_they_end(case: Case, name: str) -> None:
    for engine in (engine for engine in (*willing(case.rule), JUDGE) if engine.name == name):
        here = world(case.rule, 5, batch=2, time=13)
        y, after, surprise = engine.run(case.rule, here.tokens, here.start, torch.tensor([4, 4]))
        expected, end, surprised = engine.run(case.rule, here.tokens.map(lambda t: t[:, :4]), here.start)
        assert_near(y[:, :4], expected, ROWS, "outputs")
        assert_near(surprise[:, :4], surprised, ROWS, "surprise")
        assert_near(plain(settled(here, after, engine))["clock"], plain(settled(here, end, engine))["clock"])
        for weight, value in settled(here, end, engine).accumulator.items():
            assert_near(settled(here, after, engine).accumulator[weight], value, ROWS, weight)


@pytest.mark.parametrize("case", CHOSEN, ids=str)
def test_an_engine_leaves_what_it_was_handed_alone(case: Case) -> None:
    for engine in (*willing(case.rule), JUDGE):
        here = world(case.rule, 9, batch=2, time=9)
        tokens, state = here.tokens.map(torch.Tensor.clone), engine.run(case.rule, here.tokens.map(lambda t: t[:, :3]), here.start)[1]
        before = state.hash()
        with torch.no_grad():
            engine.run(case.rule, here.tokens, state)
        engine.run(case.rule, here.tokens, state)
        assert state.hash() == before
        for field, value in vars(here.tokens).items():
            assert value is None or torch.equal(value, getattr(tokens, field))
