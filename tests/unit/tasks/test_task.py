"""What holds of every task: samples depend on the sizes and the seed alone, and batches are samples side by side."""

import random

import pytest
import torch

from retain.tasks import Batch, Parity, Sample
from retain.tasks.task import AbstractTask
from tests.unit.tasks.asking import TASKS, fingerprint

PINNED = {
    "passkey": "33e89e1c3125e2f5",
    "number": "d856953511c5cb6a",
    "word": "90c6aa4bf50e84f5",
    "hash hop": "3353ac2991e28aad",
    "hash hop thinking": "bdb1f4d7f36267ae",
    "variables": "6c9b36049384bbc5",
    "python": "c4b10dc7193cac47",
    "one fact": "c2ab0d0b7e39af45",
    "two facts": "5b75dc47868eaef2",
    "language": "c5fa7c35d5216594",
    "passkey, byte pairs": "97a54012522c0c5d",
    "number, byte pairs": "769502602fefd090",
    "word, byte pairs": "12681971fa4f868c",
    "hash hop, byte pairs": "f32273eb1c009ba9",
    "hash hop thinking, byte pairs": "d53462c2e4360c7d",
    "variables, byte pairs": "fc3aa081762c929b",
    "python, byte pairs": "e3dfeae0c71158a9",
    "one fact, byte pairs": "acd00f49caa24f76",
    "two facts, byte pairs": "33e98b1050bcf789",
    "language, byte pairs": "5c325dabd3f3c2de",
    "recall": "9022dd5a479031cb",
    "noisy recall": "b2ee663d353bdd93",
    "forgetting": "307e950048682aa7",
    "translation": "6e32ccb600db0324",
    "parity": "a1fcf212c3ad1a7b",
    "parity of the word": "f42de6bcda85e581",
    "S3": "bb6485d679308253",
    "S3 of the word": "e91cea16c9caa280",
    "(aa)*": "8c560882851cdcc6",
    "(abab)* of the word": "09093e53d58c2f47",
    "a^n b^n": "18e0c0d7ffe40bb7",
    "a^n b^n c^n": "39ee3a4ae94276b9",
}


@pytest.fixture(params=sorted(TASKS))
def task(request: pytest.FixtureRequest) -> AbstractTask:
    return TASKS[request.param]


def test_a_seed_is_a_sample_whatever_else_is_drawn(task: AbstractTask) -> None:
    first = [fingerprint(task.sample(seed)) for seed in range(6)]
    random.seed(1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert [fingerprint(task.sample(seed)) for seed in reversed(range(6))] == first[::-1]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_the_samples_are_those_of_every_machine(name: str) -> None:
    assert fingerprint(TASKS[name].sample(7)) == PINNED[name]


def test_other_seeds_give_other_samples(task: AbstractTask) -> None:
    drawn = {fingerprint(task.sample(seed)) for seed in range(40)}
    assert len(drawn) > (8 if hasattr(task, "longest") else 38)


def test_tokens_and_labels_lie_in_the_vocabulary_and_something_is_asked(task: AbstractTask) -> None:
    for seed in range(20):
        sample = task.sample(seed)
        for numbers in (sample.tokens, sample.answers):
            assert int(numbers.min()) >= 0
            assert int(numbers.max()) < task.vocab_size
        assert bool(sample.asked.any())
        assert not bool(sample.asked[0])


def test_a_batch_is_its_samples_padded_on_the_right(task: AbstractTask) -> None:
    batch = task.batch(range(5))
    assert batch.tokens.shape[1] == max(len(task.sample(seed).tokens) for seed in range(5))
    for row in range(5):
        sample = task.sample(row)
        mask = batch.mask[row]
        assert mask.tolist() == [True] * len(sample.tokens) + [False] * (batch.mask.shape[1] - len(sample.tokens))
        for ours, theirs in ((batch.tokens, sample.tokens), (batch.asked, sample.asked), (batch.answers, sample.answers)):
            assert torch.equal(ours[row][mask], theirs)
            assert not bool(ours[row][~mask].any())
        assert batch.facts[row] == sample.facts


def test_no_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        Parity().batch([])
    with pytest.raises(ValueError, match="at least one sample"):
        Batch.of([])


@pytest.mark.usefixtures("unchecked")
def test_a_sample_refuses_what_cannot_be_asked() -> None:
    tokens = torch.tensor([1, 2, 3])
    with pytest.raises(ValueError, match=r"one length, got \[3, 2, 3\]"):
        Sample(tokens, torch.tensor([False, True]), {})
    with pytest.raises(ValueError, match=r"one length, got \[3, 3, 2\]"):
        Sample(tokens, torch.tensor([False, True, True]), {}, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="False at position 0"):
        Sample(tokens, torch.tensor([True, False, False]), {})


def test_answers_are_the_labels_where_there_are_labels() -> None:
    tokens, asked, labels = torch.tensor([1, 2]), torch.tensor([False, True]), torch.tensor([0, 5])
    assert Sample(tokens, asked, {}).answers.tolist() == [1, 2]
    assert Sample(tokens, asked, {}, labels).answers.tolist() == [0, 5]
