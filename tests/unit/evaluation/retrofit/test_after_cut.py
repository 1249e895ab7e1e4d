"""Text behind a cut: what is averaged over what, in tables, in JSON and in figures."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from retain.evaluation import AfterCut, Stretch, after_cut, draw_after_cut
from retain.evaluation import figures as drawing
from retain.evaluation.retrofit import CONTROLS, READINGS
from retain.evaluation.retrofit.readings import CUT, FULL, MEMORY
from retain.tasks import Page, Question
from tests.unit.evaluation.retrofit.small import START, Digits, read, scores, small

NOTHING = torch.zeros(0, dtype=torch.long)
COSTS = {FULL: 1.0, CUT: 3.0, MEMORY: 2.0, "writes off": 3.0, "memory of another document": 3.5}


class Going(Digits):
    """Pages of 6 tokens and 3 or 5, and how they go on: 11 tokens, or 6 where the seed is 2."""

    def page(self, seed: int) -> Page:
        dice = torch.Generator().manual_seed(seed)
        answer = torch.randint(20, (6 if seed == 2 else 11,), generator=dice)
        return Page(super().page(seed).parts, (Question(NOTHING, answer, {}),), {})


def found() -> AfterCut:
    """Two texts of two tokens, the second of which is dearer by a nat at its first token and too long for a full context."""
    stretches = [
        Stretch(reading=name, seed=seed, number=0, tokens=2, nats=() if (name, seed) == (FULL, 1) else (cost + seed, cost))
        for name, cost in COSTS.items()
        for seed in (0, 1)
    ]
    return AfterCut(title="Code", edges=(0, 1, 2), stretches=tuple(stretches), about={"model": "Small"})


@torch.no_grad()
def test_places_are_put_together_by_octaves() -> None:
    model = small()
    result = after_cut(model, Going(), range(4), start=[START])
    assert result.edges == (0, 1, 2, 4, 8, 16)
    model.eval()
    losses = {}
    for seed in range(4):
        page = Going().page(seed)
        (question,) = page.questions
        losses[seed] = F.cross_entropy(scores(model, question, NOTHING, read(model, page)), question.answer, reduction="none")
    for number, (low, high) in enumerate(pairwise(result.edges)):
        assert result.at(MEMORY, number) == pytest.approx(float(torch.cat([loss[low:high] for loss in losses.values()]).mean()), rel=1e-5)
    means = [float(loss.mean()) for loss in losses.values()]
    assert result.mean(MEMORY).value == pytest.approx(statistics.fmean(means), rel=1e-5)
    assert result.mean(MEMORY).error == pytest.approx(statistics.stdev(means) / 2, rel=1e-5)
    assert result.perplexity(MEMORY) == pytest.approx(math.exp(statistics.fmean(means)), rel=1e-5)


def test_what_a_memory_saves_is_told_text_by_text() -> None:
    """The texts cost 2.5 and 2.0 nats, and the cut base a nat more for each: the saving is surer than the costs."""
    result = found()
    assert (result.mean().value, result.mean().texts) == (2.25, 2)
    assert result.saved() == (1.0, 0.0, 2)
    assert result.saved(FULL)[::2] == (2.0, 1), "where the page does not fit the context there is nothing to hold it against"
    assert result.saved("memory of another document").value == -0.5
    assert result.saved(of="writes off").value == 1.0


def test_the_table_has_a_column_for_each_reading() -> None:
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found().markdown().splitlines()[2:]]
    assert lines[0] == ["place behind the cut", *READINGS]
    table = {row[0]: row[1:] for row in lines[2:]}
    assert table["0"] == ["1.000", "3.500", "2.500", "3.500", "4.000"]
    assert table["1"] == ["1.000", "3.000", "2.000", "3.000", "3.500"]
    assert table["saved of the cut base's"][2] == "1.000 ± 0.000"
    assert table["texts"] == ["1", "2", "2", "2", "2"]
    without = replace(found(), stretches=tuple(replace(one, nats=() if one.reading == FULL else one.nats) for one in found().stretches))
    assert [line.split(" | ")[1] for line in without.markdown().splitlines()[4:]] == ["-"] * 5 + ["0"]


def test_results_survive_json() -> None:
    for result in (found(), after_cut(small(), Going(), range(2), start=[START], full_context=0)):
        assert AfterCut.from_json(result.to_json()) == result


@pytest.mark.parametrize("missing", [*CONTROLS, MEMORY])
def test_nothing_is_shown_without_all_readings(missing: str) -> None:
    whole = found()
    bare = replace(whole, title="Code (without controls)", stretches=tuple(one for one in whole.stretches if one.reading != missing))
    for show in (AfterCut.markdown, draw_after_cut):
        with pytest.raises(ValueError, match=missing):
            show(bare)
    with pytest.raises(ValueError, match="other texts"):
        replace(whole, stretches=tuple(one for one in whole.stretches if (one.reading, one.seed) != (missing, 1))).markdown()


def test_the_figure_is_written_with_the_memory_as_its_thick_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes, canvas = [], drawing._canvas

    def keep() -> tuple[Any, Any]:
        axes.append(canvas()[1])
        return axes[-1].figure, axes[-1]

    monkeypatch.setattr(drawing, "_canvas", keep)
    assert draw_after_cut(found(), tmp_path / "code.png") == (tmp_path / "code.png").read_bytes()
    drawn = {str(line.get_label()).split(":")[0]: line for line in axes[0].lines}
    assert list(drawn) == [MEMORY, *CONTROLS]
    assert drawn[MEMORY].get_xydata().tolist() == [[1.0, 2.5], [2.0, 2.0]]
    assert all(drawn[MEMORY].get_linewidth() > 2 * drawn[name].get_linewidth() for name in CONTROLS)
