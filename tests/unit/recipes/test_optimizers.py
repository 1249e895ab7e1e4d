"""What makes the comparison of optimizers a fair one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("sklearn", reason="needs the extra `recipes`")

from recipes.optimizers import run, training, tune
from recipes.optimizers.contenders import CONTENDERS, RATES, WEIGHT_DECAY, parted
from recipes.optimizers.problems import PROBLEMS, Digits, Language
from recipes.optimizers.report import loss_at
from sklearn.datasets import load_digits

each_contender = pytest.mark.parametrize("name", CONTENDERS)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Digits:
    """The digits, for two updates with a look at what is held out after each."""
    monkeypatch.setattr(training, "EVERY", 1)
    problem = Digits()
    problem.updates, problem.warm_up = 2, 1
    return problem


@pytest.mark.parametrize(
    ("problem", "outside"),
    [("language", {"model.embed_tokens.weight", "lm_head.weight"}), ("digits", {"embed.weight", "places", "head.weight"})],
)
def test_what_newton_and_schulz_move_are_the_matrices_inside_layers(problem: str, outside: set[str]) -> None:
    model = PROBLEMS[problem].model()
    names = {id(weight): name for name, weight in model.named_parameters()}
    matrices, rest = ([names.pop(id(weight)) for weight in part] for part in parted(model))
    assert not names
    assert all(model.get_parameter(name).ndim == 2 for name in matrices)
    assert {name for name in rest if model.get_parameter(name).ndim > 1} == outside


@each_contender
def test_matrices_alone_decay_and_all_alike(name: str) -> None:
    model = Digits().model()
    matrices, rest = parted(model)
    before = [weight.detach().clone() for weight in (*matrices, *rest)]
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    for optimizer in CONTENDERS[name](matrices, rest, 0.01):
        optimizer.step()
    shares = [1 - 0.01 * WEIGHT_DECAY] * len(matrices) + [1.0] * len(rest)
    for weight, start, share in zip((*matrices, *rest), before, shares, strict=True):
        torch.testing.assert_close(weight.detach(), share * start, rtol=1e-6, atol=0.0)


@each_contender
def test_every_weight_learns(name: str) -> None:
    problem = Digits()
    torch.manual_seed(0)
    model = problem.model()
    before = [weight.detach().clone() for weight in model.parameters()]
    problem.loss(model, *problem.batch(torch.Generator().manual_seed(0))).backward()
    for optimizer in CONTENDERS[name](*parted(model), RATES[name][2]):
        optimizer.step()
    assert all(not torch.equal(weight, start) for weight, start in zip(model.parameters(), before, strict=True))


def test_all_begin_alike_and_a_training_repeated_is_the_same(short: Digits) -> None:
    found = {name: training.train(short, name, RATES[name][2], 3, "test") for name in CONTENDERS}
    assert len({tuple(each["curve"][0]) for each in found.values()}) == 1
    alone = found.pop("M3, fast memory alone")
    assert alone["loss"] == found["M3"]["loss"]  # the slow memory says nothing in its first ten updates
    assert len({each["loss"] for each in found.values()}) == len(CONTENDERS) - 1
    again = training.train(short, "M3", RATES["M3"][2], 3, "test")
    assert {**again, "seconds": 0} == {**found["M3"], "seconds": 0}
    assert training.train(short, "M3", RATES["M3"][2], 4, "test")["curve"][0] != again["curve"][0]


def test_what_goes_astray_has_no_loss(short: Digits) -> None:
    found = training.train(short, "AdamW", 1e30, 0, "test")
    assert (found["loss"], found["right"], found["training_loss"]) == (None, None, None)


def test_rates_are_chosen_where_nothing_is_reported() -> None:
    assert tune.SEED not in range(100)
    assert len({len(rates) for rates in RATES.values()}) == 1
    trials = [{"lr": 1.0, "loss": 0.5}, {"lr": 2.0, "loss": 0.4}, {"lr": 3.0, "loss": None}]
    assert tune.best(trials)["lr"] == 2.0
    with pytest.raises(ValueError, match=r"3\.0 went astray"):
        tune.best(trials[2:])


def test_what_is_held_out_is_in_one_part_only() -> None:
    packages = [set(names) for names in Language.packages.values()]
    assert not packages[0] & packages[1]
    books = Language().books
    assert [set(books[part].names) for part in ("tuning", "test")] == packages
    assert not set(books["train"].names) & (packages[0] | packages[1])
    images = {part: {row.numpy().tobytes() for row in pixels} for part, (pixels, _) in Digits().images.items()}
    assert sum(map(len, images.values())) == len(images["train"] | images["tuning"] | images["test"]) == 1797


def test_a_patch_is_four_neighbours() -> None:
    pixels, _ = Digits().images["test"]
    assert pixels.min() == -1
    assert pixels.max() == 1
    digit = ((pixels[0] + 1) * 8).reshape(4, 4, 2, 2).permute(0, 2, 1, 3).reshape(8, 8)
    assert any(torch.equal(digit, torch.tensor(image, dtype=torch.float32)) for image in load_digits().images)


def test_what_is_there_is_not_trained_again(short: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[str, float]] = []

    def train(problem: Digits, name: str, lr: float, seed: int, part: str) -> dict[str, Any]:
        trained.append((name, lr))
        return {"lr": lr, "updates": problem.updates, "loss": lr, "right": 1.0, "training_loss": lr, "seconds": 0.0, "curve": []}

    def calls(main: Callable[..., None], *given: Any) -> list[tuple[str, float]]:
        trained.clear()
        main(*given)
        return list(trained)

    tuning = tmp_path / "tuning.json"
    for module in (tune, run):
        monkeypatch.setattr(module, "PROBLEMS", {"digits": short})
        monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(run, "TUNING", tuning)
    everything = [(name, lr) for name, rates in RATES.items() for lr in rates]
    assert calls(tune.main, tuning) == everything
    assert calls(tune.main, tuning) == []
    assert calls(run.main, tmp_path, 0) == [(name, min(rates)) for name, rates in RATES.items()]
    assert calls(run.main, tmp_path, 0) == []
    found = json.loads(tuning.read_text())
    found["trials"]["digits"]["M3"][0]["loss"] = None
    tuning.write_text(json.dumps(found))
    assert calls(run.main, tmp_path, 0) == [("M3", RATES["M3"][1])]
    short.updates = 3
    assert calls(tune.main, tuning) == everything


def test_a_loss_between_two_looks_lies_on_a_line() -> None:
    curve = [[0, 4.0, 0.0], [10, 2.0, 0.0], [20, 1.0, 0.0]]
    assert [loss_at(curve, update) for update in (0, 5, 10, 12, 20, 30)] == [4.0, 3.0, 2.0, 1.8, 1.0, 1.0]
