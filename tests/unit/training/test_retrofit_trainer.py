"""Training memories beside a frozen model may be stopped, killed, cut up and shared out, and comes to the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from retain.retrofit import MemoryConfig, disable_memory, load, read_pages, watch
from retain.training import CheckpointError, Lesson, Schedule, Stop, checkpoints, read_metrics
from retain.training.retrofit import PageReading, Restraint, RetrofitRun, RetrofitTrainer
from tests.tolerances import assert_near
from tests.unit.training.retrofits import PAIRS, SAME, STEEP, run_of, small_base, weights

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_base(tmp_path_factory.mktemp("base"))


def _numbers(folder: Path, *names: str) -> list[list[float]]:
    return [[line[name] for name in names or ("loss", "divergence", "write_cost", "norm")] for line in read_metrics(folder)]


def _same(one: Path, other: Path) -> None:
    assert _numbers(one) == _numbers(other)
    theirs = weights(other)
    assert all(torch.equal(weight, theirs[name]) for name, weight in weights(one).items())


def _near(one: Path, other: Path) -> None:
    """Equal but for the order of sums."""
    assert_near(torch.tensor(_numbers(one)), torch.tensor(_numbers(other)), {torch.float32: 1e-5})
    theirs = weights(other)
    for name, weight in weights(one).items():
        assert_near(weight, theirs[name], {torch.float32: 1e-4}, name)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
@pytest.mark.parametrize(("kind", "stop"), [("plain", 4), ("late", 1), ("late", 3), ("coarse", 3)])
def test_a_stopped_training_goes_on_to_the_last_bit(kind: str, stop: int, base: Path, tmp_path: Path) -> None:
    RetrofitTrainer(run_of(kind, base), tmp_path / "whole").fit()
    done: list[int] = []
    with pytest.raises(Stop):
        RetrofitTrainer(run_of(kind, base), tmp_path / "parts").fit(lambda place, *_: done.append(place.step), wanted=lambda: len(done) == stop)
    torch.manual_seed(99)
    RetrofitTrainer(run_of(kind, base), tmp_path / "parts").fit()
    assert len(_numbers(tmp_path / "whole")) == 5
    _same(tmp_path / "parts", tmp_path / "whole")


def test_a_killed_training_goes_on_from_its_last_checkpoint(base: Path, tmp_path: Path) -> None:
    killed = tmp_path / "late"
    command = [sys.executable, "-m", "tests.unit.training.retrofits", str(base), str(tmp_path), "late", "0.5"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (len(read_metrics(killed)) >= 3 and checkpoints(killed / "checkpoints")):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for folder in (killed, tmp_path / "whole"):
        RetrofitTrainer(run_of("late", base), folder).fit()
    _same(killed, tmp_path / "whole")


def test_what_is_kept_of_frozen_layers_changes_nothing(base: Path, tmp_path: Path) -> None:
    run = run_of("late", base)
    RetrofitTrainer(run, tmp_path / "kept").fit()
    anew = RetrofitTrainer(run, tmp_path / "anew")
    assert anew.prefix is not None
    anew.objective.prefix = None  # pyright: ignore[reportArgumentType]
    anew.fit()
    assert len(anew.prefix) == 0
    _near(tmp_path / "kept", tmp_path / "anew")


def _whole(run: RetrofitRun) -> RetrofitRun:
    """The same update in one piece: ordinary text goes on from the memory of every page, as it does in the two halves together."""
    return replace(run, reading=PageReading(rows=4), restraint=replace(run.restraint, rows=4))


def test_parts_of_an_update_add_up_to_it(base: Path, tmp_path: Path) -> None:
    RetrofitTrainer(run_of("accumulated", base), tmp_path / "parts").fit()
    RetrofitTrainer(_whole(run_of("accumulated", base)), tmp_path / "whole").fit()
    _near(tmp_path / "parts", tmp_path / "whole")


def test_two_processes_learn_what_one_learns_as_copies_and_in_shards(base: Path, tmp_path: Path) -> None:
    runner = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone", "-m"]
    done = subprocess.run(
        [*runner, "tests.unit.training.retrofits", str(base), str(tmp_path), "replicas,shards"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    RetrofitTrainer(_whole(run_of("replicas", base)), tmp_path / "one").fit()
    _near(tmp_path / "replicas", tmp_path / "one")
    _near(tmp_path / "shards", tmp_path / "one")


def test_a_lesson_that_is_known_ends_early(base: Path, tmp_path: Path) -> None:
    run = run_of("late", base)
    easy, last = (replace(lesson, steps=steps) for lesson, steps in zip(run.lessons, (9, 1), strict=True))
    trainer = RetrofitTrainer(replace(run, lessons=(replace(easy, promote_at=0.9, patience=2), last)), tmp_path)
    update, shares = trainer._update, iter((1.0, 0.7, 1.0, 0.9, 0.0))
    trainer._update = lambda: {**update(), "right": next(shares)}  # pyright: ignore[reportAttributeAccessIssue]
    trainer.fit()
    assert [(line["step"], line["lesson"]) for line in read_metrics(tmp_path)] == [(1, 0), (2, 0), (3, 0), (4, 1), (5, 2)]


def test_restraint_keeps_ordinary_text_as_the_base_has_it(base: Path, tmp_path: Path) -> None:
    run = run_of("late", base)
    run = replace(run, lessons=(Lesson(tasks=(PAIRS,), steps=12),), schedule=Schedule(lr=2e-2, gate_lr=2e-2, warm_up=1))
    found = {}
    for weight in (1e-6, 30.0):
        RetrofitTrainer(replace(run, restraint=replace(run.restraint, divergence=weight)), tmp_path / str(weight)).fit()
        found[weight] = [number for (number,) in _numbers(tmp_path / str(weight), "divergence")]
    assert found[30.0][0] == pytest.approx(found[1e-6][0], rel=1e-4)
    assert found[30.0][-1] < 0.3 * found[30.0][0]
    assert found[30.0][-1] < 0.5 * found[1e-6][-1]


def test_the_numbers_of_an_update_are_those_of_the_model(base: Path, tmp_path: Path) -> None:
    """Divergence and write cost, computed anew from the definitions."""
    trainer = RetrofitTrainer(run_of("plain", base), tmp_path)
    model, pages = trainer.model.eval(), trainer._parts()[0]
    with torch.no_grad():
        with watch(model, margin=0.5) as seen:
            cache = read_pages(model, pages, trainer.start)
        cost = float(seen.write_cost())
        cache.batch_select_indices(torch.arange(2))
        text = torch.tensor([[*trainer.start, *b"aaaaaaaa"]]).expand(2, -1)
        said = model(text, past_key_values=cache).logits.log_softmax(-1)
        with disable_memory(model):
            meant = model(text).logits.log_softmax(-1)
        divergence = float((meant.exp() * (meant - said)).sum() / (2 * 8))
    came = trainer._update()
    assert came["write_cost"] == pytest.approx(cost, rel=1e-5)
    assert came["divergence"] == pytest.approx(divergence, rel=1e-3)


def test_the_base_stays_and_is_written_nowhere(base: Path, tmp_path: Path) -> None:
    model = RetrofitTrainer(run_of("plain", base), tmp_path).fit()
    before = AutoModelForCausalLM.from_pretrained(base).state_dict()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items() if name in before)
    assert before.keys() <= model.state_dict().keys()
    for path in tmp_path.rglob("*.safetensors"):
        assert not [name for name in load_file(path) if any(part in name for part in ("embed_tokens", "lm_head", "proj.weight", "layernorm"))], path
    again = load(AutoModelForCausalLM.from_pretrained(base), tmp_path / "model").eval()
    words = torch.arange(40)[None]
    assert torch.equal(again(words).logits, model(words).logits)


def test_restraint_without_weight_is_not_measured(base: Path, tmp_path: Path) -> None:
    run = run_of("late", base)
    RetrofitTrainer(replace(run, restraint=Restraint(divergence=0.0)), tmp_path).fit()
    assert all("divergence" not in line and "write_cost" not in line for line in read_metrics(tmp_path))


def test_a_folder_of_another_run_is_refused(base: Path, tmp_path: Path) -> None:
    RetrofitTrainer(run_of("plain", base), tmp_path)
    with pytest.raises(CheckpointError, match=r"restraint\.rows: 2 there, 3 now"):
        RetrofitTrainer(replace(run_of("plain", base), restraint=Restraint(text=SAME, rows=3, length=8, write_cost=0.3, margin=0.5)), tmp_path)


@pytest.mark.parametrize("name", ["training.safetensors", "memory_model.safetensors"])
def test_a_damaged_checkpoint_is_refused_by_name(name: str, base: Path, tmp_path: Path) -> None:
    run = replace(run_of("plain", base), lessons=(Lesson(tasks=(PAIRS,), steps=1),))
    RetrofitTrainer(run, tmp_path).fit()
    newest = checkpoints(tmp_path / "checkpoints")[-1]
    data = (newest / name).read_bytes()
    (newest / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=newest.name):
        RetrofitTrainer(run, tmp_path).fit()


def test_layers_that_are_not_there_are_refused_before_anything_is_trained(base: Path, tmp_path: Path) -> None:
    run = run_of("plain", base)
    with pytest.raises(ValueError, match="names each layer once, from -3 to 2"):
        RetrofitTrainer(replace(run, model=replace(run.model, memory=MemoryConfig(layers=(3,), memory=STEEP.memory))), tmp_path)
