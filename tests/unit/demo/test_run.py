"""The demonstration from end to end, in miniature, and the command that starts it."""

import json
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from retain.cli import main
from retain.demo.folder import RunFolder
from retain.demo.haystack import ask
from retain.demo.model import ByteModel, ByteModelConfig, ByteModelState
from retain.demo.needle import Haystack, Needle, encode
from retain.demo.plan import LONGEST, CodePlan, NeedlePlan, Plan
from retain.demo.reading import read
from retain.demo.run import Demo
from retain.demo.training import Pause, Paused

PNG = b"\x89PNG\r\n\x1a\n"


class Silent:
    """Counts what it is told, and asks for a stop when a stage begins whose title holds ``stop_at``."""

    def __init__(self, pause: Pause, stop_at: str = "nothing") -> None:
        self.pause, self.stop_at = pause, stop_at
        self.titles: list[str] = []
        self.shares: list[float] = []

    def say(self, line: str) -> None:
        assert line

    @contextmanager
    def bar(self, title: str, total: int) -> Generator[Callable[[int], None]]:
        self.titles.append(title)
        self.pause.wanted = self.pause.wanted or self.stop_at in title
        done = [0]
        yield lambda more: done.__setitem__(0, done[0] + more)
        self.shares.append(done[0] / total)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("library")
    for name, lines in (("json", 40_000), ("email", 20_000), ("idlelib", 600)):
        (root / name).mkdir()
        (root / name / "a.py").write_text("".join(f"{name}_{i} = {i * i}  # {name}\n" for i in range(lines)))
    return root


def demo(folder: Path, library: Path, stop_at: str = "nothing") -> tuple[Demo, Silent]:
    needle = NeedlePlan(steps=2, asked=((1024, 2), (2048, 3)), call=512, in_full=1024, batch=256)
    plan = Plan(seed=5, needle=needle, code=CodePlan(steps=2, bytes=3000, bins=4, call=700, rows=1))
    pause = Pause()
    silent = Silent(pause, stop_at)
    return Demo(plan, RunFolder.open(folder, plan.options()), silent, pause, library, "retain demo"), silent


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, library: Path) -> tuple[Path, dict[str, Any], Silent]:
    folder = tmp_path_factory.mktemp("out")
    run, silent = demo(folder, library)
    return folder, run.run(), silent


def without_times(value: Any) -> Any:
    noisy = {"seconds", "bytes_per_second", "resident", "machine"}
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in noisy}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def test_all_numbers_and_figures_are_written(finished: tuple[Path, dict[str, Any], Silent]) -> None:
    folder, results, silent = finished
    assert json.loads((folder / "demo.json").read_text()) == json.loads(json.dumps(results))
    assert all((folder / name).read_bytes().startswith(PNG) for name in ("needle.png", "code.png"))
    assert silent.shares == [1.0] * len(silent.shares)
    assert results["command"] == "retain demo"
    far = results["needle/2048"]
    assert (far["writes_on"]["read"], far["writes_off"]["read"], far["writes_on"]["asked"]) == (2048, 512, 3)
    assert far["guess"]["expected_right"] == pytest.approx(3e-5)
    assert results["corpus"]["held_out_packages"] == ["email", "idlelib"]
    assert results["corpus"]["mark_in_held_out"] == 0
    code = results["code/writes_on"]
    assert code["bytes"] == 2999
    assert sum(code["by_position"]) / 4 == pytest.approx(code["bits_per_byte"], abs=0.01)
    assert results["machine"]["torch"] == torch.__version__


@pytest.mark.parametrize("stop_at", ["2,048", "The same without"])
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    tmp_path: Path, library: Path, finished: tuple[Path, dict[str, Any], Silent], stop_at: str
) -> None:
    stopped, before = demo(tmp_path, library, stop_at)
    with pytest.raises(Paused):
        stopped.run()
    assert not (tmp_path / "demo.json").exists()
    again, after = demo(tmp_path, library)
    assert without_times(again.run()) == without_times(finished[1])
    assert after.titles[0] == before.titles[-1], "what was finished is not done again"


class Oracle(ByteModel):
    """Answers 4, 8, 2, 1, 3 after each other, whatever it reads."""

    def __init__(self) -> None:
        super().__init__(ByteModelConfig(dim=8))

    def forward(self, tokens: torch.Tensor, state: Any, write: bool) -> tuple[torch.Tensor, Any, torch.Tensor]:
        return (
            tokens.double().unsqueeze(-1),
            ByteModelState((torch.zeros(len(tokens), 7),), (self.remembering[0].memory.start(len(tokens)),)),
            torch.zeros(()),
        )

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        follows = dict(zip(b" 48213", b"482130", strict=True))
        out = torch.zeros(*hidden.shape[:-1], 256)
        for row in range(len(hidden)):
            out[row, -1, follows.get(int(hidden[row, -1, 0]), 0)] = 9.0
        return out


def test_answers_are_counted_digit_by_digit() -> None:
    hays = [Haystack(encode(needle.question), needle, 0.5) for needle in (Needle("abcd", "48213"), Needle("efgh", "48299"))]
    report = ask(Oracle(), hays, 5, Pause()).report()
    assert [one["answer"] for one in report["needles"]] == ["48213", "48213"]
    assert (report["right"], report["asked"], report["digits_right"]) == (1, 2, 0.8)


def test_a_reader_that_knows_nothing_pays_eight_bits() -> None:
    class Blank(Oracle):
        def logits(self, hidden: torch.Tensor) -> torch.Tensor:
            return torch.zeros(*hidden.shape[:-1], 256)

    report = read(Blank(), torch.arange(100, dtype=torch.uint8), 32, Pause()).report(4)
    assert (report["bits_per_byte"], report["by_position"], report["bytes"]) == (8.0, [8.0] * 4, 99)


def test_the_full_plan_asks_for_a_million_and_trains_on_no_more_than_512() -> None:
    plan = Plan.of(seed=0, length=LONGEST, quick=False)
    assert plan.needle.asked == ((4096, 16), (65536, 8), (1 << 20, 4))
    assert max(length for step in range(plan.needle.steps) for length in plan.needle.lengths(step)) == 512
    assert plan.code.bytes is None


def test_refusals_of_the_command(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    runner = CliRunner()
    short = runner.invoke(main.app, ["demo", "--length", "10", "--out", str(tmp_path / "out")])
    assert short.exception is None or isinstance(short.exception, SystemExit), repr(short.exception)
    assert (short.exit_code, "at least 1024, got 10" in short.output) == (2, True)
    blocked = runner.invoke(main.app, ["demo", "--out", str(blocker)])
    assert (blocked.exit_code, "cannot be written" in blocked.output) == (2, True)
    RunFolder.open(tmp_path / "out", Plan.of(seed=3, length=4096, quick=True).options())
    other = runner.invoke(main.app, ["demo", "--quick", "--length", "4096", "--out", str(tmp_path / "out")])
    assert (other.exit_code, "seed: 3 there, 0 now" in other.output) == (2, True)


def test_the_library_itself_does_not_bring_the_demonstration_along() -> None:
    code = "import sys, retain; sys.exit(' '.join({'matplotlib', 'rich', 'typer', 'psutil', 'retain.demo'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == ""
