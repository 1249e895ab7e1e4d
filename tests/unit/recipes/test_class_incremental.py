"""The class-incremental recipe: its streams, its learner beside plain SGD, its measures, and what is tuned."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("sklearn", reason="needs scikit-learn, of the extra 'recipes'")

from recipes.class_incremental import run
from recipes.class_incremental.learner import Learner, Rates, Variant, measures, meta_learnt
from recipes.class_incremental.report import row
from recipes.class_incremental.streams import CLASSES, FEATURES, LESSONS, PER_TASK, TASK, TASKS, Data, Pool, Streams, drawn, pools
from recipes.class_incremental.tune import JOINT, TRIALS, chosen, trials
from recipes.class_incremental.variants import META_LEARNT, VARIANTS

WEIGHTS = ("gate", "up", "down")


@pytest.fixture(scope="module")
def numbered() -> Pool:
    """Twelve classes; the first feature of each sample is its class, the second its number, questions negative."""

    def samples(own: int, count: int, sign: int) -> torch.Tensor:
        rest = torch.randn(count, FEATURES - 2, generator=torch.Generator().manual_seed(own))
        return torch.cat([torch.full((count, 1), own), sign * torch.arange(1.0, count + 1)[:, None], rest], 1)

    return Pool(tuple(samples(own, LESSONS + 3, 1) for own in range(12)), tuple(samples(own, 20, -1) for own in range(12)))


def test_a_stream_brings_two_new_classes_a_task_and_asks_what_it_never_held(numbered: Pool) -> None:
    streams = drawn(numbered, 3, 0)
    for x, answers, asked, right in zip(streams.x, streams.answers, streams.asked, streams.right, strict=True):
        tasks = [set(part[:, 0].int().tolist()) for part in x.split(TASK)]
        assert [len(task) for task in tasks] == [PER_TASK] * TASKS
        assert len(set.union(*tasks)) == CLASSES
        assert [set(part[:, 0].int().tolist()) for part in asked.split(len(asked) // TASKS)] == tasks
        slots = {int(own): int(slot) for own, slot in zip(x[:, 0], answers, strict=True)}
        assert sorted(slots.values()) == list(range(CLASSES))
        assert right.tolist() == [slots[int(own)] for own in asked[:, 0]]
        assert len({tuple(sample) for sample in x[:, :2].tolist()}) == CLASSES * LESSONS
        assert bool((x[:, 1] > 0).all())
        assert bool((asked[:, 1] < 0).all())
    assert not torch.equal(streams.answers[0], streams.answers[1])


def test_a_shuffled_stream_holds_the_same_in_another_order(numbered: Pool) -> None:
    shuffled = drawn(numbered, 1, 0, shuffled=True)
    assert shuffled.answers[0, :TASK].unique().tolist() == list(range(CLASSES))
    assert shuffled.answers[0].bincount().tolist() == [LESSONS] * CLASSES


def test_one_frequency_is_plain_fine_tuning(numbered: Pool) -> None:
    """Weights and answers after each task against torch.optim.SGD on batches of eight, row by row."""
    streams = drawn(numbered, 2, 1)
    torch.manual_seed(0)
    plan = Variant(steps=(0, 0)), Rates(first=2e-3, ratio=3.0)
    learner = Learner(*plan).double()
    streams = Streams(streams.x.double(), streams.answers, streams.asked.double(), streams.right)
    matrix, states = learner.matrix(streams), list(learner.read(streams))
    for i in range(2):
        by_hand = Learner(*plan).double()
        by_hand.load_state_dict(learner.state_dict())
        groups = [
            {"params": [by_hand.get_parameter(f"memory.blocks.{place}.{name}.weight") for name in WEIGHTS], "lr": 2e-3 * 3**place} for place in (0, 1)
        ]
        optimizer = torch.optim.SGD(groups)
        for t in range(0, CLASSES * LESSONS, 8):
            optimizer.zero_grad()
            loss = F.cross_entropy(_plain(by_hand, streams.x[i, t : t + 8]), streams.answers[i, t : t + 8], reduction="sum")
            loss.backward()
            optimizer.step()
            if (t + 8) % TASK == 0:
                task = (t + 8) // TASK - 1
                for place in range(2):
                    moved = by_hand.memory.get_parameter(f"blocks.{place}.down.weight")
                    torch.testing.assert_close(
                        states[task][f"{place}/weights/down"][i], moved.detach(), rtol=1e-5, atol=1e-8
                    )  # a rate is exp(log(rate)) in float32
                said = (_plain(by_hand, streams.asked[i]).argmax(-1) == streams.right[i]).double()
                assert matrix[i, task].tolist() == pytest.approx(said.view(TASKS, -1).mean(1).tolist())
        logits, told = _plain(by_hand, streams.asked[i]), learner.right(streams, states[-1], told=True)[i]
        for own, scores, share in zip(streams.right[i].view(TASKS, -1), logits.view(TASKS, -1, CLASSES), told.tolist(), strict=True):
            a, b = own.unique().tolist()
            said = torch.where(scores[:, a] > scores[:, b], a, b) == own
            assert share == pytest.approx(float(said.double().mean()))


def _plain(learner: Learner, x: torch.Tensor) -> torch.Tensor:
    """The learner's logits [samples, classes], written out."""
    for place in range(2):
        gate, up, down, gain = (learner.get_parameter(f"memory.blocks.{place}.{name}.weight") for name in (*WEIGHTS, "norm"))
        seen = gain * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        x = x + (F.silu(seen @ gate.T) * (seen @ up.T)) @ down.T
    return learner.scale.exp() * (x / x.norm(dim=-1, keepdim=True)) @ learner.directions


def test_measures_are_those_of_a_matrix_by_hand() -> None:
    after = [[0.9, 0.0, 0.1], [0.5, 0.8, 0.0], [0.2, 0.9, 0.7]]
    found = measures(torch.tensor([after, after]))
    assert found["newest"] == pytest.approx([0.9, 0.8, 0.7], abs=1e-4)
    assert found["seen"] == pytest.approx([0.9, 0.65, 0.6], abs=1e-4)
    assert found["final"] == pytest.approx([0.6], abs=1e-4)
    assert found["forgotten"] == pytest.approx([((0.9 - 0.2) + (0.9 - 0.9)) / 2], abs=1e-4)


def test_outer_learning_moves_starts_and_rates(numbered: Pool) -> None:
    torch.manual_seed(0)
    learner = Learner(Variant(steps=(0, 1)), Rates(first=1e-2))
    before = {name: part.clone() for name, part in learner.named_parameters()}
    losses = meta_learnt(learner, numbered, 0, steps=1, rows=2)
    assert len(losses) == 1
    assert all(not torch.equal(part, before[name]) for name, part in learner.named_parameters())


@pytest.mark.parametrize("data", ["digits", pytest.param("source", marks=pytest.mark.slow)])
def test_what_is_asked_about_is_apart_from_what_is_pretrained_and_tuned_on(data: Data) -> None:
    found = pools(data)
    for pair in combinations(found.values(), 2):
        one, other = ({tuple(x) for own in (*part.lessons, *part.questions) for x in own[:, :8].tolist()} for part in pair)
        assert not one & other
    for part in found.values():
        assert min(map(len, part.lessons)) >= LESSONS
        assert min(map(len, part.questions)) >= 16


def test_data_are_chosen_by_name() -> None:
    with pytest.raises(ValueError, match="digits or source, got 'letters'"):
        pools("letters")  # pyright: ignore[reportArgumentType]


def test_every_variant_has_as_many_trials_and_as_many_weights() -> None:
    weights = set()
    for variant in VARIANTS.values():
        tried = trials(variant)
        assert len(tried) == len(set(tried)) == TRIALS
        memory = Learner(variant, tried[-1]).memory
        weights.add(sum(weight.numel() for weight in memory.weights(memory.start(1)).values()))
    assert len(weights) == 1
    assert set(META_LEARNT) <= set(VARIANTS)


def test_a_setting_is_chosen_among_those_that_learn_enough() -> None:
    def trial(first: float, final: float, newest: float, forgotten: float) -> dict[str, object]:
        return {"rates": asdict(Rates(first=first)), "final": final, "newest": newest, "forgotten": forgotten}

    found = {
        "a": [trial(1, 0.6, 0.5, 0.0), trial(2, 0.5, 1.0, 0.4), trial(3, 0.4, 0.95, 0.3), trial(4, 0.3, 0.99, 0.5)],
        "b": [trial(5, 0.2, 0.6, 0.1), trial(6, 0.1, 0.7, 0.2)],
        JOINT: [trial(7, 0.9, 9.0, 0.0)],
    }
    assert {why: rates.first for why, rates in chosen(found, "a").items()} == {"knows most": 1, "forgets least": 3}
    assert {why: rates.first for why, rates in chosen(found, "b").items()} == {"knows most": 5, "forgets least": 6}
    assert chosen(found, JOINT)["knows most"].first == 7


def test_a_variant_comes_to_a_row_of_the_table(numbered: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "ROWS", 2)
    torch.manual_seed(0)
    variant, rates = Variant(steps=(0, 1)), Rates(first=1e-2)
    settings = {"knows most": rates, "forgets least": replace(rates, first=1e-6)}
    found = run.of(variant, settings, Learner(variant, rates).state_dict(), {"pretraining": numbered, "asked": numbered}, 0, 1)
    assert list(found["cells"]) == ["knows most", "forgets least", "meta-learnt"]
    assert found["cells"]["knows most"]["final"] != found["cells"]["forgets least"]["final"]
    assert found["cells"]["meta-learnt"]["rates"]["every"] == [8, 32]
    assert row("1 frequency", [found["cells"]["meta-learnt"]])[-1].startswith("8, 32; 0.0")
