"""The learner against the definition of its rule, and what its numbers mean."""

import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retain.core.state import MemoryState
from retain.core.tokens import Tokens
from retain.engines import Recurrent
from retain.text import HashingEmbedder, MemoryConfig, ordered
from retain.text.calibration import Calibration
from retain.text.embedders import embedded
from retain.text.learner import Learner
from retain.text.titans import Titans

EMBEDDER = HashingEmbedder(width=64)
TEXTS = [f"text {i} of {i * i} about {'xyz'[i % 3]}" for i in range(12)]


def grids(texts: list[str]) -> list[bytes]:
    return embedded(EMBEDDER, texts)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_observations_are_steps_of_the_rule(depth: int) -> None:
    config = MemoryConfig(dim=12, memory_depth=depth, learning_rate=1e-3, momentum=0.3, forgetting=0.01)
    learner, rule = Learner(config, EMBEDDER.width), config.rule
    initial = {f"w{i}": w.clone()[None] for i, w in enumerate(learner.weights.matrices())}
    assert {n: w.shape for n, w in initial.items()} == {n: w.shape for n, w in rule.structure.init(1, 12, 12).items()}
    keys, values = grids(TEXTS), grids(TEXTS)[::-1]
    k, v = torch.stack([learner.key(b) for b in keys]), torch.stack([learner.channels(b) for b in values])
    gate = torch.ones(1, len(k), 1)
    tokens = Tokens(
        k=k[None, :, None, None],
        v=v[None, :, None, None],
        q=k[None, :, None],
        lr=1e-3 * gate[..., None],
        momentum=0.3 * gate[..., None],
        retain=0.99 * gate,
    )
    _, state, surprises = Recurrent().run(rule, tokens, MemoryState.start(rule, initial, 1))
    raw = [learner.observe(i, key, value, 1e-3).raw for i, (key, value) in enumerate(zip(keys, values, strict=True))]
    assert isinstance(learner.weights, Titans)
    momentum = learner.weights.momentum()
    for i, weight in enumerate(learner.weights.matrices()):
        torch.testing.assert_close(weight, state.accumulator[f"w{i}"][0, 0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(momentum[i], state.moments[0][f"w{i}"][0, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.tensor(raw), surprises.flatten(), atol=1e-5, rtol=1e-4)


def test_the_weights_after_a_history_are_these_on_every_machine() -> None:
    learner = Learner(MemoryConfig(dim=24, momentum=0.1), EMBEDDER.width)
    for i, grid in enumerate(grids(TEXTS)):
        learner.observe(i, grid, grid, 0.01)
    assert learner.hash() == "8e3d4036e3ff3e64"


def test_the_change_of_the_weights_is_as_long_as_is_told() -> None:
    learner = Learner(MemoryConfig(dim=24, forgetting=0.01), EMBEDDER.width)
    for i, grid in enumerate(grids(TEXTS)):
        before = [w.clone() for w in learner.weights.matrices()]
        told = learner.observe(i, grid, grid, 0.01).weight_delta
        moved = math.sqrt(sum(float((a - b).double().square().sum()) for a, b in zip(learner.weights.matrices(), before, strict=True)))
        assert told == pytest.approx(moved, rel=1e-3)
        assert told > 0


def test_no_rate_makes_a_memory_run_away() -> None:
    learner = Learner(MemoryConfig(dim=24, momentum=0.5), EMBEDDER.width)
    for i, grid in enumerate(grids(TEXTS * 10)):
        learner.observe(i, grid, grid, 1e6)
    assert all(float(w.abs().max()) < 100 for w in learner.weights.matrices())
    assert max(learner.error(grid, grid) for grid in grids(TEXTS)) < 1.0


@given(rows=st.integers(1, 600), columns=st.integers(1, 70), seed=st.integers(0, 99))
def test_ordered_products_are_products(rows: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    w, x, d = (torch.randn(*shape, generator=generator) for shape in ((rows, columns), (rows,), (columns,)))
    torch.testing.assert_close(ordered.by_rows(x, w).double(), x.double() @ w.double(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ordered.by_columns(w, d).double(), w.double() @ d.double(), atol=1e-4, rtol=1e-4)
    assert ordered.squared(x) == pytest.approx(float(x.double() @ x.double()), rel=1e-4)


@given(errors=st.lists(st.floats(0.01, 10), min_size=1, max_size=50), asked=st.lists(st.floats(0, 20), min_size=2, max_size=9, unique=True))
def test_surprise_rises_with_the_error_and_is_a_half_at_the_typical_one(errors: list[float], asked: list[float]) -> None:
    calibration = Calibration()
    for error in errors:
        calibration.note_error(error)
    assert calibration.typical == pytest.approx(sum(errors) / len(errors))
    assert calibration.surprise(calibration.typical) == pytest.approx(0.5)
    told = [calibration.surprise(error) for error in sorted(asked)]
    assert told == sorted(told)
    assert 0 <= told[0] <= told[-1] < 1


def test_confidence_is_the_share_of_recalls_that_were_right_and_rises() -> None:
    calibration = Calibration()
    for i in range(400):
        calibration.note_recall(0.82, right=i % 4 != 0)
        calibration.note_recall(0.42, right=i % 4 == 0)
        calibration.note_recall(0.62, right=False)
    assert calibration.confidence(0.82) == pytest.approx(0.75, abs=0.01)
    assert calibration.confidence(0.42) == calibration.confidence(0.62) == pytest.approx(0.125, abs=0.01)
    told = [calibration.confidence(i / 50) for i in range(51)]
    assert told == sorted(told)
    copy = Calibration.of(calibration.tensors())
    assert [copy.confidence(i / 50) for i in range(51)] == told


def test_seen_texts_surprise_less_than_texts_that_were_not() -> None:
    learner, draw = Learner(MemoryConfig(dim=128), EMBEDDER.width), random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(400)]
    seen, unseen = (grids([" ".join(draw.choices(words, k=6)) for _ in range(40)]) for _ in range(2))
    for i, grid in enumerate(seen):
        learner.observe(i, grid, grid, 0.01)
    told = [sorted(learner.calibration.surprise(learner.error(g, g)) for g in part) for part in (seen, unseen)]
    assert told[0][20] < 0.25
    assert 0.4 < told[1][20] < 0.6  # a typical text that was not seen: one half, by the scale's definition
    again = learner.calibration.noted
    learner.observe(30, seen[0], seen[0], 0.01)
    assert learner.calibration.noted == again  # a text that is there already says nothing of new ones


def test_the_seed_makes_another_memory() -> None:
    config = MemoryConfig(dim=16)
    one, other = Learner(config, 64), Learner(replace(config, seed=1), 64)
    assert one.hash() != other.hash()
