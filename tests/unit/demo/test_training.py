"""Training stops between steps and goes on as if it had not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retain.demo.folder import RunFolder
from retain.demo.model import ByteModel, ByteModelConfig
from retain.demo.training import Pause, Paused, Schedule, Trained, optimizer, restore, train

SCHEDULE = Schedule(steps=6, warm_up=2, group=2)


def fresh() -> ByteModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return ByteModel(ByteModelConfig(dim=8, windows=(3,)))


def loss_of(model: ByteModel) -> Callable[[int], Tensor]:
    def loss(step: int) -> Tensor:
        text = torch.arange(40).reshape(1, 40) * (step + 3) % 256
        hidden, _, _ = model(text[:, :-1])
        return F.cross_entropy(model.logits(hidden)[0], text[0, 1:])

    return loss


def run(folder: Path, pause: Pause, tick: Callable[[float], None] = lambda loss: None) -> tuple[ByteModel, Trained]:
    model = fresh()
    trained = train(model, loss_of(model), SCHEDULE, RunFolder.open(folder, {}), "toy", pause, tick)
    return model, trained


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole, told = run(tmp_path / "whole", Pause())
    pause, seen = Pause(), []

    def stop_in_the_second_group(loss: float) -> None:
        seen.append(loss)
        pause.wanted = pause.wanted or len(seen) == 3

    with pytest.raises(Paused):
        run(tmp_path / "cut", pause, stop_in_the_second_group)
    assert len(seen) == 4, "a group of two steps is finished before the stop"
    again, retold = run(tmp_path / "cut", Pause())
    assert retold.losses == told.losses
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    assert not (tmp_path / "cut/toy-training.safetensors").exists()


def test_training_lowers_the_loss_and_leaves_the_model(tmp_path: Path) -> None:
    model, trained = run(tmp_path, Pause())
    assert trained.losses[-1] < trained.losses[0]
    other = fresh()
    restore(other, RunFolder.open(tmp_path, {}), "toy")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_missing_model_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"--fresh"):
        restore(fresh(), RunFolder.open(tmp_path, {}), "toy")


def test_a_training_that_goes_astray_says_so(tmp_path: Path) -> None:
    model = fresh()
    weight = model.head.weight

    def astray(step: int) -> Tensor:
        return weight.sum() * float("nan")

    with pytest.raises(FloatingPointError, match=r"toy went astray.*step 0"):
        train(model, astray, SCHEDULE, RunFolder.open(tmp_path, {}), "toy", Pause())


def test_gates_learn_at_their_own_rate_without_decay() -> None:
    model = fresh()
    others, gates = optimizer(model, Schedule(steps=1)).param_groups
    assert {id(p) for p in gates["params"]} == {id(p) for block in model.remembering for p in block.memory.gates.parameters()}
    assert (gates["lr"], gates["weight_decay"]) == (5 * others["lr"], 0.0)
    assert len(others["params"]) + len(gates["params"]) == len(list(model.parameters()))


def test_the_schedule_warms_up_and_ends_at_a_twentieth() -> None:
    shares = [Schedule(steps=100, warm_up=10).share(step) for step in range(100)]
    assert shares[0] == pytest.approx(0.1, abs=0.01)
    assert max(shares) == shares[9] or max(shares) == shares[10]
    assert shares[-1] == pytest.approx(0.05, abs=0.01)
