"""Training may be stopped, killed and shared out, and comes to the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from retain.models import RetainForCausalLM
from retain.tasks import MQAR, Parity
from retain.training import CheckpointError, Lesson, Reading, Run, Schedule, Stop, Trainer, Watch, checkpoints, read_metrics
from retain.training.lessons import Place, draw
from tests.tolerances import assert_near
from tests.unit.training.runs import SMALL, losses, run_of, weights

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def _same(one: Path, other: Path) -> None:
    assert losses(one) == losses(other)
    theirs = weights(other)
    assert all(torch.equal(weight, theirs[name]) for name, weight in weights(one).items())


@pytest.mark.parametrize(
    ("kind", "stop"), [("plain", 2), ("plain", 5), ("accumulated", 5), ("segments", 2), ("segments", 5), ("levels", 3), ("coarse", 5)]
)
def test_a_stopped_training_goes_on_to_the_last_bit(kind: str, stop: int, tmp_path: Path) -> None:
    Trainer(run_of(kind), tmp_path / "whole").fit()
    done: list[int] = []
    with pytest.raises(Stop):
        Trainer(run_of(kind), tmp_path / "parts").fit(lambda place, *_: done.append(place.step), wanted=lambda: len(done) == stop)
    torch.manual_seed(99)
    Trainer(run_of(kind), tmp_path / "parts").fit()
    assert len(losses(tmp_path / "whole")) >= 8
    _same(tmp_path / "parts", tmp_path / "whole")


def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    command, killed = [sys.executable, "-m", "tests.unit.training.runs", str(tmp_path), "segments", "0.3"], tmp_path / "segments"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (len(losses(killed)) >= 5 and checkpoints(killed / "checkpoints")):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    unfinished = killed / "checkpoints" / ".unfinished-00000099"
    unfinished.mkdir()  # as if it had been killed while it wrote one
    Trainer(run_of("segments"), killed).fit()
    Trainer(run_of("segments"), tmp_path / "whole").fit()
    _same(killed, tmp_path / "whole")
    assert not unfinished.exists()


def test_two_processes_lose_what_one_loses(tmp_path: Path) -> None:
    kinds = ("plain", "accumulated", "levels", "shards")  # in one meeting, since to begin takes them longest
    runner = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone", "-m"]
    done = subprocess.run(
        [*runner, "tests.unit.training.runs", str(tmp_path / "two"), ",".join(kinds)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for kind in kinds:
        one, two = tmp_path / "one" / kind, tmp_path / "two" / kind
        Trainer(run_of(kind), one).fit()
        assert_near(torch.tensor(losses(two)), torch.tensor(losses(one)), {torch.float32: 1e-5}, kind)
        ones = weights(one)
        for name, weight in weights(two).items():
            assert_near(weight, ones[name], {torch.float32: 1e-4}, f"{kind}: {name}")


def test_parts_of_an_update_add_up_to_it(tmp_path: Path) -> None:
    for kind in ("plain", "accumulated"):
        Trainer(run_of(kind), tmp_path / kind).fit()
    assert_near(torch.tensor(losses(tmp_path / "plain")), torch.tensor(losses(tmp_path / "accumulated")), {torch.float32: 1e-5})


def test_a_lesson_lets_writing_cost_its_share(tmp_path: Path) -> None:
    """With no share the gates learn from the task alone, as in a model whose writing costs nothing."""
    found = {}
    for name, share, cost in (("no share", 0.0, 0.1), ("free", 1.0, 0.0), ("half", 0.5, 0.2), ("whole", 1.0, 0.1)):
        run = run_of("plain")
        lessons = tuple(replace(lesson, write_cost=share) for lesson in run.lessons)
        Trainer(replace(run, model={**SMALL, "write_cost": cost}, lessons=lessons), tmp_path / name).fit()
        found[name] = losses(tmp_path / name)
    assert found["no share"] == pytest.approx(found["free"])
    assert found["half"] == pytest.approx(found["whole"])
    assert found["free"] != pytest.approx(found["whole"])


def test_segments_carry_the_memory_along(tmp_path: Path) -> None:
    """The loss of a later segment is that of reading the sample whole, up to there, with these weights."""
    run = replace(
        run_of("segments"), lessons=(Lesson(tasks=(MQAR(pairs=2, vocabulary=8, length=17, gap=2),), steps=3),), schedule=Schedule(lr=0, gate_lr=0)
    )
    trainer = Trainer(run, tmp_path)
    trainer.fit()
    batch = draw(run, Place(), range(4))
    with torch.no_grad():
        logits = trainer.model(batch.tokens[:, :-1]).logits.log_softmax(-1)
    picked = -logits.gather(-1, batch.answers[:, 1:, None]).squeeze(-1)
    found = losses(tmp_path)
    for i, start in enumerate(range(0, 16, 6)):
        asked = batch.asked[:, 1:][:, start : start + 6]
        expected = picked[:, start : start + 6][asked].mean() if bool(asked.any()) else torch.zeros(())
        assert_near(torch.tensor(found[i]), expected, {torch.float32: 1e-5})


def test_training_learns_and_its_checkpoints_are_models(tmp_path: Path) -> None:
    memory = {"preset": "delta_net", "gates": {"lr": 0.5}, "projections": {"start": "recall"}, "output": {"gate": None}}
    model = {**SMALL, "hidden_size": 32, "num_hidden_layers": 1, "block": "lmm", "memory": memory, "write_cost": 0.0}
    task = MQAR(pairs=4, vocabulary=32, length=32, gap=4)
    lesson = Lesson(tasks=(task,), steps=400, promote_at=0.99, patience=5)
    run = Run(model=model, lessons=(lesson,), reading=Reading(rows=32), watch=Watch(every=5, save_every=50))
    speaker = Trainer(run, tmp_path).fit()
    lines = read_metrics(tmp_path)
    assert lines[-1]["step"] < 400  # the lesson ended early
    batch = task.batch(range(64))
    with torch.no_grad():
        right = {
            write: (speaker(batch.tokens[:, :-1], write=write).logits.argmax(-1) == batch.answers[:, 1:])[batch.asked[:, 1:]].float().mean().item()
            for write in (True, False)
        }
    assert right[True] > 0.95
    assert right[False] < 0.2
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert len(checkpoints(tmp_path / "checkpoints")) <= 2
    back = RetainForCausalLM.from_pretrained(checkpoints(tmp_path / "checkpoints")[-1]).eval()
    assert_near(back(batch.tokens[:2]).logits, speaker(batch.tokens[:2]).logits)


def test_training_stops_when_the_loss_is_low_enough(tmp_path: Path) -> None:
    Trainer(replace(run_of("plain"), watch=Watch(every=1, stop_below=100.0, stop_after=3)), tmp_path).fit()
    assert len(losses(tmp_path)) == 3


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    Trainer(run_of("plain"), tmp_path)
    with pytest.raises(CheckpointError, match=r"reading\.rows: 4 there, 8 now"):
        Trainer(replace(run_of("plain"), reading=Reading(rows=8)), tmp_path)


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    Trainer(run_of("plain"), tmp_path).fit()
    newest = checkpoints(tmp_path / "checkpoints")[-1]
    data = (newest / "training.safetensors").read_bytes()
    (newest / "training.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=newest.name):
        Trainer(run_of("plain"), tmp_path).fit()


def test_a_loss_that_is_not_finite_ends_the_training_with_its_cure(tmp_path: Path) -> None:
    trainer = Trainer(run_of("plain"), tmp_path)
    with torch.no_grad():
        trainer.model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=r"lower schedule\.lr"):
        trainer.fit()


def test_a_killed_run_leaves_no_line_twice(tmp_path: Path) -> None:
    Trainer(run_of("plain"), tmp_path).fit()
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 99, "lo')
    assert [line["step"] for line in read_metrics(tmp_path)] == list(range(1, 9))
    Trainer(run_of("plain"), tmp_path).fit()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == list(range(1, 9))


def test_tensorboard_is_told_and_an_unknown_package_is_named(tmp_path: Path) -> None:
    Trainer(replace(run_of("plain"), watch=Watch(every=1, to=("tensorboard",))), tmp_path / "told").fit()
    assert list((tmp_path / "told" / "tensorboard").glob("events*"))
    sys.modules["trackio"] = None  # pyright: ignore[reportArgumentType]
    try:
        with pytest.raises(ImportError, match="pip install trackio"):
            Trainer(replace(run_of("plain"), watch=Watch(to=("trackio",))), tmp_path / "not").fit()
    finally:
        del sys.modules["trackio"]


def test_trackio_is_told_and_goes_on_with_the_run_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    stub = types.ModuleType("trackio")
    stub.init = lambda **how: told.append(how)  # pyright: ignore[reportAttributeAccessIssue]
    stub.log = lambda numbers, step: told.append((step, numbers["loss"]))  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "trackio", stub)
    Trainer(replace(run_of("plain"), watch=Watch(every=4, to=("trackio",))), tmp_path / "told").fit()
    assert told[0] == {"project": "told", "name": "training", "resume": "allow"}
    assert told[1:] == [(line["step"], line["loss"]) for line in read_metrics(tmp_path / "told")]


def test_samples_depend_on_seed_and_number_alone() -> None:
    run = run_of("plain")
    one, again = (draw(run, Place(drawn=3), range(4)) for _ in range(2))
    assert torch.equal(one.tokens, again.tokens)
    assert not torch.equal(draw(run, Place(drawn=4), range(4)).tokens[:, :3], one.tokens[:, :3])
    part = draw(run, Place(drawn=3), range(2, 4))
    assert torch.equal(part.tokens[:, :4], one.tokens[2:, :4])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lesson(tasks=(), steps=1), "has tasks"),
        (lambda: Lesson(tasks=(Parity(shortest=2, longest=3),), steps=1, promote_at=1.5), "promote_at"),
        (lambda: Reading(rows=4, accumulate=3), "accumulate divides rows"),
        (lambda: Reading(segment=0), "at least one token"),
        (lambda: Reading(rows=4, accumulate=2, segment=4), "accumulate=1"),
        (lambda: Watch(every=0), "at least 1"),
        (lambda: Run(model={}, lessons=()), "at least one lesson"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("reading", [Reading(checkpointing=True), Reading(across="shards")])
def test_levels_that_learn_want_all_at_hand(reading: Reading, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="take gradients while they read"):
        Trainer(replace(run_of("levels"), reading=reading), tmp_path)
