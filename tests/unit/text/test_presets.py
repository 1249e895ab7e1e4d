"""A text memory under every rule that has a name."""

import inspect
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from retain import presets
from retain.core.state import MemoryState
from retain.core.tokens import Tokens
from retain.engines import Recurrent
from retain.text import MemoryConfig
from retain.text.embedders import embedded
from retain.text.learner import Learner
from tests.unit.text.memories import EMBEDDER, opened

NAMES = [name for name, made in vars(presets).items() if inspect.isfunction(made)]
PAIRS = [
    ("red apples", "paris"),
    ("quick foxes", "rome"),
    ("deep oceans", "oslo"),
    ("my uncle Bob", "lima"),
    ("jazz", "cairo"),
    ("old wheels", "quito"),
]
SLOW = {"atlas"}  # whose steps are so short that what they write is not heard above what a fresh memory answers


def config(name: str) -> MemoryConfig:
    return MemoryConfig(dim=16, preset=name)


def test_every_preset_is_tried() -> None:
    assert len(NAMES) >= 23
    assert "titans" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_learns_and_recalls(name: str) -> None:
    learner = Learner(MemoryConfig(dim=48, preset=name), EMBEDDER.width)
    keys, values = (embedded(EMBEDDER, list(part)) for part in zip(*PAIRS, strict=True))
    for i, (key, value) in enumerate(zip(keys, values, strict=True)):
        before = learner.error(key, value)
        step = learner.observe(i, key, value, learner.config.learning_rate)
        assert step.raw == before
        assert 0 <= learner.error(key, value) < before
        assert step.weight_delta > 0
    best = [int(learner.scores(learner.answer(learner.key(key))).argmax()) for key in keys]
    assert sum(i == at for i, at in enumerate(best)) >= (1 if name in SLOW else 4)


@pytest.mark.parametrize("name", NAMES)
def test_a_memory_under_any_rule(tmp_path: Path, name: str) -> None:
    """Goes on after it was closed, carries over, forgets, and goes back."""
    with opened(tmp_path / "a", config(name)) as memory:
        for text, associate in PAIRS[:3]:
            memory.observe(text, associate)
        memory.snapshot("three")
        named, response, size = memory.get_weight_hash(), memory.infer("red")["response"], memory.stats()["parameters"]
        memory.export_jsonl(tmp_path / "lines")
    with opened(tmp_path / "a", None) as memory, opened(tmp_path / "b", config(name)) as other:
        assert memory.config == config(name)
        assert (memory.get_weight_hash(), memory.stats()["parameters"]) == (named, size)
        assert torch.equal(memory.infer("red")["response"], response)
        other.import_jsonl(tmp_path / "lines")
        assert other.get_weight_hash() == named
        number = memory.observe("to be forgotten")["id"]
        assert memory.get_weight_hash() != named
        memory.forget(number)
        assert (memory.get_weight_hash(), memory.snapshots()) == (named, ["three"])
        assert (memory.observe("and on")["surprise"], memory.get_weight_hash()) == (other.observe("and on")["surprise"], other.get_weight_hash())
        memory.rollback("three")
        assert memory.get_weight_hash() == named


@pytest.mark.parametrize("name", ["delta_net", "mesa", "ttt_mlp", "yaad"])
def test_observations_are_steps_of_the_rule_by_the_oracle(name: str) -> None:
    chosen = MemoryConfig(dim=24, preset=name)
    learner, rule = Learner(chosen, EMBEDDER.width), chosen.rule
    keys, values = (embedded(EMBEDDER, list(part)) for part in zip(*PAIRS, strict=True))
    k = torch.stack([learner.channels(key) for key in keys])[None, :, None, None]
    v = torch.stack([learner.channels(value) for value in values])[None, :, None, None] * 24**0.5
    ones = torch.ones(1, len(PAIRS), 1)
    gates = {
        "delta_net": {},
        "mesa": {"momentum": ones[..., None]},
        "ttt_mlp": {},
        "yaad": {"retain": ones, "threshold": ones[..., None] * 2 * 24**0.5},
    }
    tokens = Tokens(k=k, v=v, q=k[:, :, :, 0], lr=chosen.learning_rate * ones[..., None], **gates[name])
    start = rule.structure.init(1, 24, 24, torch.Generator().manual_seed(0))
    _, state, losses = Recurrent().run(rule, tokens, MemoryState.start(rule, start, 1))
    raw = [learner.observe(i, *pair, chosen.learning_rate).raw for i, pair in enumerate(zip(keys, values, strict=True))]
    torch.testing.assert_close(torch.tensor(raw) * 24, losses.flatten(), atol=1e-4, rtol=1e-4)
    for got, expected in zip(learner.weights.matrices(), state.accumulator.values(), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_forgetting_of_a_rule_lets_go_that_share() -> None:
    for name in ("retnet", "gla", "decaying_fast_weights", "gated_delta_net"):
        learner = Learner(MemoryConfig(dim=24, preset=name, forgetting=0.25), EMBEDDER.width)
        a, b = embedded(EMBEDDER, ["one thing", "quite another"])
        learner.observe(1, a, a, 1.0)
        before = learner.weights.matrices()[0].clone()
        learner.observe(2, b, b, 1e-9)
        torch.testing.assert_close(learner.weights.matrices()[0], 0.75 * before, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"preset": "delta_net", "momentum": 0.5}, "has no momentum.*leave momentum out"),
        ({"preset": "mesa", "momentum": 0.5}, "has no momentum"),
        ({"preset": "delta_net", "forgetting": 0.1}, "has no forgetting"),
        ({"preset": "delta_net", "memory_depth": 2}, "memory_depth is 1"),
        ({"preset": "yaad", "memory_depth": 3}, "memory_depth is 2"),
        ({"preset": "deltanet"}, "no preset 'deltanet'.*delta_net"),
        ({"preset": "titans", "momentum": 1.0}, "less than 1"),
    ],
)
def test_numbers_that_a_rule_does_not_have_are_refused(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        MemoryConfig(**given)  # pyright: ignore[reportArgumentType]


def test_a_config_says_what_its_rule_has_and_comes_back_from_json() -> None:
    for name in NAMES:
        made = MemoryConfig(preset=name)
        assert None not in asdict(made).values()
        assert MemoryConfig.from_json(made.to_json()) == made
    assert MemoryConfig(preset="atlas", memory_depth=3).rule.structure == presets.atlas(depth=3).structure
    old = {"dim": 16, "memory_depth": 2, "learning_rate": 0.01, "momentum": 0.1, "forgetting": 0.0, "temperature": 0.1, "seed": 0, "device": "cpu"}
    assert MemoryConfig.from_json(json.dumps(old)) == MemoryConfig(dim=16, momentum=0.1)


def test_a_rate_that_a_rule_does_not_bear_is_told_and_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "notes", MemoryConfig(dim=16, preset="ttt_mlp")) as memory:
        memory.observe("fine")
        before = memory.get_weight_hash()
        with pytest.raises(ValueError, match="more than the rule 'ttt_mlp' bears"):
            memory.observe("much too much", learning_rate=1e38)
        assert (memory.get_weight_hash(), memory.stats()["records"]) == (before, 1)


HASHES = """
from retain.text import MemoryConfig
from retain.text.embedders import embedded
from retain.text.learner import Learner
from tests.unit.text.memories import EMBEDDER
for name in ("titans", "delta_net", "ttt_mlp", "mesa"):
    learner = Learner(MemoryConfig(dim=256, preset=name), EMBEDDER.width)
    for i, grid in enumerate(embedded(EMBEDDER, ["a text", "another", "a third one"])):
        learner.observe(i, grid, grid, learner.config.learning_rate)
    print(learner.hash())
"""


def test_the_hash_is_the_same_in_every_run(capsys: pytest.CaptureFixture[str]) -> None:
    root = str(Path(__file__).parents[3])
    where = {**os.environ, "PYTHONPATH": os.pathsep.join([root, f"{root}/src"]), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    other = subprocess.run([sys.executable, "-c", HASHES], env=where, capture_output=True, text=True, check=True).stdout
    exec(HASHES, {})
    assert capsys.readouterr().out == other
    assert len(set(other.split())) == 4
