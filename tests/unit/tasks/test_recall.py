"""Associative recall: every asked value follows from the newest pair of its key."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from retain.tasks import MQAR, ForgettingMQAR, Sample
from tests.unit.tasks.asking import check_even

SIZES = [
    MQAR(),
    MQAR(pairs=64, vocabulary=8192, length=512, gap=0),
    MQAR(pairs=4, vocabulary=8, length=17, gap=1),
    MQAR(pairs=5, queries=2, vocabulary=64, length=90, gap=40, filler="noise"),
    MQAR(pairs=1, queries=1, vocabulary=4, length=5, gap=1),
]


def solve(sample: Sample, pairs: int, keys: int) -> list[int]:
    """Read the stream token by token: a pair binds a key among the first ``2 * pairs`` tokens; later, the token before an asked one is a key."""
    bound, answers = {}, []
    tokens = sample.tokens.tolist()
    for i in range(0, 2 * pairs, 2):
        assert 1 <= tokens[i] <= keys < tokens[i + 1]
        bound[tokens[i]] = tokens[i + 1]
    for place in sample.asked.nonzero().flatten().tolist():
        answers.append(bound[tokens[place - 1]])
    return answers


@pytest.mark.parametrize("task", SIZES, ids=str)
def test_the_value_bound_to_the_key_answers(task: MQAR) -> None:
    for seed in range(25):
        sample = task.sample(seed)
        assert solve(sample, task.pairs, task.vocabulary // 2) == sample.tokens[sample.asked].tolist()
        assert len(sample.tokens) == task.length
        assert int(sample.asked.sum()) == (task.queries or task.pairs)
        assert int(sample.asked.int().argmax()) >= 2 * task.pairs + task.gap


@pytest.mark.parametrize("recall", SIZES[:1] + SIZES[3:4], ids=str)
@pytest.mark.parametrize("rebinds", [0, 1, 9])
def test_of_a_key_that_is_bound_again_the_newest_value_answers(recall: MQAR, rebinds: int) -> None:
    task = ForgettingMQAR(recall=replace(recall, length=200), rebinds=rebinds)
    for seed in range(25):
        sample = task.sample(seed)
        writes = recall.pairs + rebinds
        assert solve(sample, writes, recall.vocabulary // 2) == sample.tokens[sample.asked].tolist()
        bound = sample.tokens[: 2 * writes].view(-1, 2).tolist()
        first = int(sample.asked.int().argmax())
        assert sample.facts["rebound"] == sum(key == int(sample.tokens[first - 1]) for key, _ in bound) - 1
        assert len({tuple(pair) for pair in bound}) == writes
        assert len({key for key, _ in bound}) == recall.pairs


def test_only_the_newest_value_is_right() -> None:
    task = ForgettingMQAR(recall=MQAR(pairs=4, length=128), rebinds=12)
    right = []
    for seed in range(50):
        sample = task.sample(seed)
        oldest = dict(reversed(sample.tokens[:32].view(-1, 2).tolist()))
        places = sample.asked.nonzero().flatten()
        right += [oldest[int(sample.tokens[place - 1])] == int(sample.tokens[place]) for place in places]
    assert sum(right) / len(right) < 0.15


def test_first_and_later_bindings_are_mixed() -> None:
    task = ForgettingMQAR(recall=MQAR(pairs=4, queries=1, length=64, gap=4), rebinds=4)
    late = []
    for seed in range(50):
        keys = task.sample(seed).tokens[:16:2].tolist()
        late.append(any(key in keys[:place] and set(keys[place:]) - set(keys[:place]) for place, key in enumerate(keys)))
    assert sum(late) > 35


def test_later_bindings_fall_on_keys_evenly() -> None:
    task = ForgettingMQAR(recall=MQAR(pairs=2, queries=1, length=64, gap=4), rebinds=1)
    check_even((task.sample(seed).facts["rebound"] for seed in range(200)), 2)


@pytest.mark.parametrize("task", [SIZES[0], SIZES[3], ForgettingMQAR()], ids=["blank", "noise", "forgetting"])
def test_the_distance_leads_back_to_the_value(task: MQAR | ForgettingMQAR) -> None:
    for seed in range(25):
        sample = task.sample(seed)
        first = int(sample.asked.int().argmax())
        back = first - int(sample.facts["distance"])
        assert torch.equal(sample.tokens[[back - 1, back]], sample.tokens[[first - 1, first]])


def test_noise_holds_no_key_that_was_bound() -> None:
    task = SIZES[3]
    for seed in range(25):
        sample = task.sample(seed)
        keys = set(sample.tokens[0:10:2].tolist())
        assert 0 not in sample.tokens
        assert sum(token in keys for token in sample.tokens[10:].tolist()) == task.queries


def test_values_and_keys_are_even_so_that_a_guess_scores_chance() -> None:
    task = MQAR(pairs=4, vocabulary=16, length=32, gap=4)
    samples = [task.sample(seed) for seed in range(200)]
    check_even((token for sample in samples for token in sample.tokens[sample.asked].tolist()), 8)
    check_even((token for sample in samples for token in sample.tokens[0:8:2].tolist()), 8)
    check_even((sample.tokens[:8:2].tolist().index(int(sample.tokens[int(sample.asked.int().argmax()) - 1])) for sample in samples), 4)


def test_the_power_crowds_queries_towards_the_pairs() -> None:
    mean = {}
    for power in (0.01, 1.0):
        task = MQAR(pairs=8, queries=4, length=400, gap=0, power=power)
        mean[power] = sum(float(task.sample(seed).asked.nonzero().float().mean()) for seed in range(60)) / 60
    assert abs(mean[1.0] - 208) < 20
    assert mean[0.01] < 130


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MQAR(vocabulary=7), "even, half keys and half values, and 4 at least, got 7"),
        (lambda: MQAR(pairs=65), "1 to 64, .* got 65"),
        (lambda: MQAR(queries=17), "1 to pairs=16, got 17"),
        (lambda: MQAR(queries=0), "1 to pairs=16, got 0"),
        (lambda: MQAR(gap=-1), "got gap=-1"),
        (lambda: MQAR(power=0.0), "power=0.0"),
        (lambda: MQAR(length=95), "take 96 tokens. Cure: length=96 or more"),
        (lambda: ForgettingMQAR(recall=MQAR(), rebinds=17), "33 pairs.*Cure: length=130"),
        (lambda: ForgettingMQAR(recall=MQAR(), rebinds=64), "less than the 64 values"),
        (lambda: ForgettingMQAR(rebinds=-1), "got -1"),
    ],
)
def test_what_cannot_be_is_refused_with_the_cure(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="'blank' or 'noise', got 'red'"):
        MQAR(filler="red")  # pyright: ignore[reportArgumentType]
