"""The examples at small sizes, held to what their first lines say that one sees."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"
GUESSED = 0.1


class Shown:
    """What an example printed, and the names that it left behind."""

    def __init__(self, text: str, names: dict[str, Any]) -> None:
        self.text, self.names = text, names

    def all(self, pattern: str) -> list[Any]:
        """What the pattern finds, which must be something."""
        found = re.findall(pattern, self.text)
        assert found, f"{pattern!r} is not in:\n{self.text}"
        return found

    def number(self, pattern: str) -> float:
        (found,) = self.all(pattern)
        return float(found)


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(name: str, *words: str) -> Shown:
        monkeypatch.setattr(sys, "argv", [name, *words])
        torch.manual_seed(0)
        names = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return Shown(capsys.readouterr().out, names)

    return run


def test_each_example_is_tested_and_says_how_it_is_run() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f'show("{path.stem}"' in here
        assert f"python examples/{path.name}" in path.read_text(encoding="utf-8").split('"""')[1]


def test_a_memory_in_your_transformer_recalls_what_attention_cannot_see(show: Any) -> None:
    shown = show("your_transformer", "--steps", "60")
    assert shown.number(r"memory writes: (\S+) of values") > 0.8
    assert shown.number(r"writes off: (\S+) of values") < GUESSED


def test_a_new_bias_is_run_by_all_engines_but_one(show: Any) -> None:
    shown = show("your_bias", "--time", "40")
    assert shown.number(r"by hand and by autograd differ by (\S+)\n") < 1e-14
    differences = {name: (float(y), float(x)) for name, y, x in shown.all(r"(\w+): outputs differ by (\S+), gradients by (\S+)\n")}
    assert differences.keys() == {"dual", "materialised", "recurrent"}
    assert all(max(pair) < 1e-12 for pair in differences.values())
    assert shown.all("delta: delta needs a memory that is one matrix")
    y, v = (torch.randn(5, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    bias = shown.names["Cauchy"](scale=0.7)
    (taken,) = torch.autograd.grad(bias.loss(y, v).sum(), y)
    torch.testing.assert_close(bias.grad(y, v), taken)


def test_a_long_stream_leaves_no_more_behind_than_a_short_one(show: Any) -> None:
    shown = show("long_stream", "--calls", "8")
    lines = shown.all(r"([\d,]+) tokens +([\d,]+) a second   state ([\d,]+) bytes")
    read, rates, states = ([int(number.replace(",", "")) for number in column] for column in zip(*lines, strict=True))
    assert read == [4096 * call for call in range(1, 9)]
    assert min(rates) > 0
    one = sum(2 * 4 * 64 * 128 for _ in ("anchor", "accumulator", "momentum"))
    assert len({*states}) == 1
    assert one <= states[0] < 1.1 * one
    grown = [int(number) for number in re.findall(r"grown by (\d+) MB", shown.text)]
    assert not grown or grown[-1] - grown[3] < 16
    assert shown.all("the loaded state goes on alike: True")


def test_a_hugging_face_model_gets_a_memory(show: Any) -> None:
    shown = show("hugging_face", "--steps", "50")
    assert shown.all("logits with the memory attached are the base's: True")
    assert shown.number(r"memory writes: (\S+) of values") > 0.3
    assert shown.number(r"writes off: (\S+) of values") < GUESSED
    moved = {name for name, weight in shown.names["model"].named_parameters() if weight.grad is not None}
    assert moved
    assert all("memory" in name for name in moved)


def test_the_notebook_finds_forgets_and_goes_back(show: Any) -> None:
    shown = show("notebook")
    notes, questions = shown.names["NOTES"], shown.names["QUESTIONS"]
    surprises = [(float(before), float(after)) for before, after in shown.all(r"surprise (\S+), now (\S+)\n")]
    assert len(surprises) == len(notes)
    assert all(after < before / 2 for before, after in surprises)
    answers = dict(shown.all(r"(?m)^(.*\?)   (.*)$"))
    assert answers == dict(zip(questions, (notes[0], notes[1], notes[4]), strict=True))
    told = shown.all(r"(?m)^(.*): (\d+) records, weights (\w{16})")
    assert [(day, int(count)) for day, count, _ in told] == [("on Monday", 5), ("on Tuesday", 6), ("back on Monday", 5)]
    assert told[0][2] == told[2][2] != told[1][2]
