"""Page recall: what is counted, in what rows, and that nothing is shown without its controls."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from retain.evaluation import PageOutcome, PageRecall, Share, draw_page_recall, page_recall
from retain.evaluation import figures as drawing
from retain.evaluation.retrofit import CONTROLS, READINGS, readings
from retain.evaluation.retrofit.readings import FULL, MEMORY, replies
from retain.retrofit import AllTokens, Asked, branches_of
from retain.retrofit.attach import session_of
from retain.tasks import Page, Question
from tests.unit.evaluation.retrofit.small import START, Digits, small


class Spelt:
    """Tokens 0 to 9 are words of four letters behind a space, the others single letters."""

    vocab_size = 20

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError

    def decode(self, tokens: list[int]) -> str:
        return "".join(f" w{token}{token}{token % 2}" if token < 10 else chr(87 + token) for token in tokens)


def outcome(reading: str, seed: int, right: int, **facts: Any) -> PageOutcome:
    applies = (reading, seed) != (FULL, 2)
    return PageOutcome(
        reading=reading,
        seed=seed,
        number=0,
        facts=facts,
        tokens=Share(right, 2) if applies else Share(0, 0),
        characters=Share(2 * right, 5) if applies else Share(0, 0),
    )


def found() -> PageRecall:
    outcomes = [
        outcome(reading, seed, 2 if reading == MEMORY else seed % 2, distance=8 << seed, format=" {key} | {value}\n")
        for reading in READINGS
        for seed in range(3)
    ]
    return PageRecall(title="Pairs", outcomes=tuple(outcomes), by="distance", about={"model": "Small"})


def test_tokens_answers_and_characters_are_counted_as_they_were_told() -> None:
    model = small()
    result = page_recall(model, Digits(), range(24), start=[START], codec=Spelt())
    by_key = {(o.reading, o.seed, o.number): o for o in result.outcomes}
    assert len(by_key) == 5 * 48
    for reply in replies(model, Digits(), range(24), start=[START]):
        wanted = reply.question.answer.tolist()
        for reading, told in reply.told.items():
            assert told is not None
            own, said = by_key[reading, reply.seed, reply.number], told.said.tolist()
            right = sum(a == b for a, b in zip(said, wanted, strict=True))
            assert own.tokens == Share(right, len(wanted))
            assert own.exact == Share(int(said == wanted), 1)
            spelt = [(Spelt().decode([a]), Spelt().decode([b])) for a, b in zip(said, wanted, strict=True)]
            letters = [(a, b) for one, other in spelt for a, b in zip(one.ljust(len(other)), other, strict=False) if b != " "]
            assert own.characters == Share(sum(a == b for a, b in letters), len(letters))
    assert any(0 < o.tokens.right < o.tokens.asked for o in result.outcomes), "some answers are right in part"


class Said(Digits):
    """The page says one token nine times, and it is the answer to an empty question."""

    def page(self, seed: int) -> Page:
        token = torch.tensor([seed % 20])
        return Page((token.repeat(4), token.repeat(5)), (Question(token[:0], token, {}),), {"hops": 1 + seed % 2})


def test_what_only_the_context_tells_is_no_recall() -> None:
    """A base that says the last token again, and memories whose gates are shut: over a cut there is only the first token to say again."""
    model = small()
    for branch in branches_of(model):
        torch.nn.init.zeros_(branch.strength)
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            weight.zero_()
        same = torch.nn.functional.normalize(model.model.embed_tokens.weight, dim=-1)
        model.model.embed_tokens.weight.copy_(same)
        model.lm_head.weight.copy_(same)
    model.model.norm.weight.data.fill_(1.0)
    result = page_recall(model, Said(), range(8), start=[START])
    assert {name: result.overall(name).exact for name in READINGS} == {name: Share(8 * (name == FULL), 8) for name in READINGS}


def test_a_memory_that_keeps_the_page_is_seen_in_its_own_reading_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory that is the list of what was written, and says its last token."""
    model = small()

    def keep(model: Any, pages: list[Page], start: list[int], *, prefix: None) -> list[int]:
        return [int(page.text[-1]) if isinstance(session_of(model).writes, AllTokens) else START for page in pages]

    def say(model: Any, pages: list[Page], cache: Any, start: list[int], *, of: list[int] | None = None, prefix: None = None) -> Asked:
        cache = cache if isinstance(cache, list) else None  # the page in sight tells it nothing
        told = [START if cache is None else cache[i if of is None else of[i]] for i in range(len(pages))]
        assert bool(session_of(model).off) == (cache is None)
        said, wanted = torch.tensor(told), torch.cat([page.questions[0].answer for page in pages])
        return Asked(torch.zeros(len(pages)), said, wanted, torch.arange(len(pages)), len(pages))

    monkeypatch.setattr(readings, "read_pages", keep)
    monkeypatch.setattr(readings, "ask", say)
    result = page_recall(model, Said(), range(8), start=[START])
    assert {name: result.overall(name).exact for name in READINGS} == {name: Share(8 * (name == MEMORY), 8) for name in READINGS}
    assert [(row.group, row.exact) for row in result.rows(by="hops") if row.reading == MEMORY] == [("1", Share(4, 4)), ("2", Share(4, 4))]


def test_the_table_has_a_column_for_each_reading() -> None:
    title, _, head, _, *lines = found().markdown().splitlines()
    assert title == "**Pairs**"
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in (head, *lines)]
    assert cells[0] == ["distance", "questions", "right", *READINGS]
    assert [row[:3] for row in cells[1:4]] == [["8", "1", "exact"], ["", "", "tokens"], ["", "", "characters"]]
    assert cells[1][3:] == ["0.00 (0.00 - 0.79)"] * 2 + ["1.00 (0.21 - 1.00)"] + ["0.00 (0.00 - 0.79)"] * 2
    assert cells[9][3] == "-", "the third page does not fit the context"


def test_where_a_reading_applies_to_some_their_number_is_told_and_words_are_made_plain() -> None:
    lines = found().markdown(by="format").splitlines()
    assert lines[4].startswith("| {key} \\| {value} | 3 | exact | 0.00 (0.00 - 0.66) of 2 | 0.00 (0.00 - 0.56) | 1.00 (0.44 - 1.00) |")
    assert len(lines) == 7


def test_distances_that_are_many_and_far_apart_are_grouped_in_octaves() -> None:
    result = found()
    many = [replace(o, seed=seed, facts={"distance": 3 + seed * seed}) for o in result.outcomes[::3] for seed in range(30)]
    groups = [row.group for row in replace(result, outcomes=tuple(many)).rows()[::5]]
    assert groups == ["2 to 4", "4 to 8", "8 to 16", "16 to 32", "32 to 64", "64 to 128", "128 to 256", "256 to 512", "512 to 1,024"]


def test_results_survive_json() -> None:
    for result in (found(), page_recall(small(), Digits(), range(2), start=[START], codec=Spelt())):
        again = PageRecall.from_json(result.to_json())
        assert again == result
        assert again.markdown() == result.markdown()
    assert {"kind": "page recall", "format": 1}.items() <= json.loads(result.to_json()).items()


@pytest.mark.parametrize("missing", [*CONTROLS, MEMORY])
def test_nothing_is_shown_without_all_readings(missing: str) -> None:
    whole = found()
    bare = replace(whole, title="Pairs (without controls)", outcomes=tuple(o for o in whole.outcomes if o.reading != missing))
    for show in (PageRecall.markdown, str, draw_page_recall):
        with pytest.raises(ValueError, match=missing):
            show(bare)
    one_less = replace(whole, outcomes=tuple(o for o in whole.outcomes if (o.reading, o.seed) != (missing, 1)))
    with pytest.raises(ValueError, match="other questions"):
        one_less.markdown()


def test_a_question_is_answered_once_in_each_reading() -> None:
    with pytest.raises(ValueError, match="several of question 0 of seed 1"):
        replace(found(), outcomes=(*found().outcomes, outcome(FULL, 1, 0)))


def test_facts_and_readings_that_are_not_there_are_named() -> None:
    with pytest.raises(ValueError, match="no fact 'hops'; it has distance, format"):
        found().markdown(by="hops")
    with pytest.raises(ValueError, match="no reading 'model'"):
        found().overall("model")
    with pytest.raises(ValueError, match="questions of Digits have no fact 'hops'; they have length, distance, place"):
        page_recall(small(), Digits(), range(2), start=[START], by="hops")


def test_the_figure_is_written_with_the_memory_as_its_thick_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes, canvas = [], drawing._canvas

    def keep() -> tuple[Any, Any]:
        axes.append(canvas()[1])
        return axes[-1].figure, axes[-1]

    monkeypatch.setattr(drawing, "_canvas", keep)
    png = draw_page_recall(found(), tmp_path / "pairs.png", measure="tokens")
    assert (tmp_path / "pairs.png").read_bytes() == png
    assert png[:4] == b"\x89PNG"
    lines = {bars.get_label(): bars.lines[0] for bars in axes[0].containers}
    assert list(lines) == [MEMORY, *CONTROLS]
    assert lines[MEMORY].get_xydata().tolist() == [[8, 1.0], [16, 1.0], [32, 1.0]]
    assert lines[FULL].get_xydata().tolist() == [[8, 0.0], [16, 0.5]], "nothing is drawn where the page does not fit"
    assert all(lines[MEMORY].get_linewidth() > 2 * lines[name].get_linewidth() for name in CONTROLS)
    draw_page_recall(found(), by="format")
    measure: Any = "whole"
    with pytest.raises((ValueError, TypeError), match=r"measure|whole"):
        draw_page_recall(found(), measure=measure)
