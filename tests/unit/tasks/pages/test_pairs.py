"""Pairs: the line of the asked key stands on the page, alone, and says the answer where the distance leads."""

import math
import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from retain.tasks import HELD_OUT_FORMATS, TRAINED_FORMATS, BytePairs, Bytes, Codec, Format, Letters, Page, Pairs, Vocabulary
from tests.unit.tasks.asking import PAIRS, check_even
from tests.unit.tasks.pages.reading import check_places, text_of

WORDS = Vocabulary(tuple(f"{first}{last}" for first in ("ba", "ko", "ti", "lu", "se") for last in ("nd", "rk", "st", "lm", "vo", "gra", "pe", "fi")))
CODEC = BytePairs.train([f" {a} = {b}\n" for a in WORDS.words for b in WORDS.words] * 2, vocab_size=316)
SIZES = [
    Pairs(facts=1, keys=Letters(2)),
    Pairs(facts=(3, 40), asked=3),
    Pairs(facts=9, asked=9, formats=HELD_OUT_FORMATS, codec=PAIRS),
    Pairs(facts=(2, 10), asked=2, keys=WORDS, codec=CODEC),
    Pairs(facts=(2, 10), asked=2, keys=WORDS, values=Letters(3), codec=CODEC),
]


def pairs_of(page: Page, codec: Codec) -> list[tuple[str, str]]:
    """Keys and values of a page, read with the format that it says it is in."""
    pattern = re.escape(str(page.facts["format"])).replace(r"\{key\}", "(?P<key>\\w+)").replace(r"\{value\}", "(?P<value>\\w+)")
    text = text_of(page.text, codec)
    found = [(match["key"], match["value"]) for match in re.finditer(pattern, text)]
    assert "".join(str(page.facts["format"]).format(key=key, value=value) for key, value in found) == text
    return found


def solve(page: Page, prompt: str, codec: Codec) -> list[str]:
    """The values of the pairs whose key is a word of the question."""
    return [value for key, value in pairs_of(page, codec) if key in re.findall(r"\w+", prompt)]


@pytest.mark.parametrize("pages", SIZES, ids=range(len(SIZES)))
def test_one_line_alone_answers_each_question(pages: Pairs) -> None:
    for page in pages.batch(range(25)):
        assert len(page.questions) == pages.asked
        assert len(pairs_of(page, pages.codec)) == page.facts["facts"]
        for question in page.questions:
            prompt, answer = text_of(question.prompt, pages.codec), text_of(question.answer, pages.codec)
            key = pairs_of(page, pages.codec)[int(question.facts["place"])][0]
            assert [f" {value}" for value in solve(page, f" {key} ", pages.codec)] == [answer]
            assert any(form.question(key) == prompt for form in pages.formats if form.line == page.facts["format"])


@pytest.mark.parametrize("pages", SIZES, ids=range(len(SIZES)))
def test_distances_lead_back_to_the_answer(pages: Pairs) -> None:
    for page in pages.batch(range(25)):
        check_places(page)
        assert page.facts["length"] == len(page.text)


@pytest.mark.parametrize("pages", SIZES, ids=range(len(SIZES)))
def test_no_word_stands_twice_and_no_key_is_asked_twice(pages: Pairs) -> None:
    for page in pages.batch(range(25)):
        words = [word for pair in pairs_of(page, pages.codec) for word in pair]
        assert len(set(words)) == len(words)
        assert len({question.facts["place"] for question in page.questions}) == pages.asked


@pytest.mark.parametrize("pages", SIZES, ids=range(len(SIZES)))
def test_tokens_are_those_of_the_joint_text(pages: Pairs) -> None:
    for page in pages.batch(range(10)):
        assert pages.codec.encode(text_of(page.text, pages.codec)) == page.text.tolist()
        for question in page.questions:
            both = [*question.prompt.tolist(), *question.answer.tolist()]
            assert pages.codec.encode(pages.codec.decode(both)) == both
            assert text_of(question.answer, pages.codec).startswith(" ")


def test_a_word_of_the_vocabulary_is_one_token_as_key_and_as_value() -> None:
    words = Vocabulary.of(CODEC)
    for form in (*TRAINED_FORMATS, *HELD_OUT_FORMATS):
        pages = Pairs(facts=2, formats=(form,), keys=words, codec=CODEC)
        for page in pages.batch(range(5)):
            for word in (word for pair in pairs_of(page, CODEC) for word in pair):
                (token,) = CODEC.encode(f" {word}")
                assert page.text.tolist().count(token) == 1
            assert [len(question.answer) for question in page.questions] == [1]


def test_held_out_words_never_stand_on_trained_pages() -> None:
    trained, held_out = (Pairs(facts=3, keys=words, codec=CODEC) for words in WORDS.split(0.4))
    seen = [{word for page in pages.batch(range(60)) for pair in pairs_of(page, CODEC) for word in pair} for pages in (trained, held_out)]
    assert [len(words) for words in seen] == [24, 16]
    assert not seen[0] & seen[1]


def test_formats_to_train_on_and_held_out_ones_differ_in_line_and_question() -> None:
    assert (len(TRAINED_FORMATS) >= 8, len(HELD_OUT_FORMATS)) == (True, 3)
    for part in ("line", "ask"):
        assert not {getattr(form, part) for form in TRAINED_FORMATS} & {getattr(form, part) for form in HELD_OUT_FORMATS}
    assert len({form.ask for form in (*TRAINED_FORMATS, *HELD_OUT_FORMATS)}) == len(TRAINED_FORMATS) + len(HELD_OUT_FORMATS)


def test_formats_and_places_are_drawn_evenly() -> None:
    pages = Pairs(facts=5).batch(range(400))
    lines = Counter(form.line for form in TRAINED_FORMATS)
    drawn = Counter(str(page.facts["format"]) for page in pages)
    assert set(drawn) == set(lines)
    assert all(abs(count - 400 * lines[line] / 12) < 6 * math.sqrt(400 * lines[line] / 12) for line, count in drawn.items())
    check_even((page.questions[0].facts["place"] for page in pages), 5)


def test_facts_are_even_in_octaves() -> None:
    counts = [int(page.facts["facts"]) for page in Pairs(facts=(4, 31), formats=TRAINED_FORMATS[:1]).batch(range(300))]
    assert (min(counts), max(counts)) == (4, 31)
    check_even((int(math.log2(count)) for count in counts), 3)


def test_the_key_may_stand_behind_the_value() -> None:
    form = Format("It is {value} that {key} gives.\n", "What gives {key}?")
    pages = Pairs(facts=4, formats=(form,), codec=PAIRS)
    for page in pages.batch(range(10)):
        check_places(page)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"facts": 0}, "1 at least, .* got 0"),
        ({"facts": (5, 4)}, r"got \(5, 4\)"),
        ({"asked": 0}, "1 to the least number of facts, 8, got 0"),
        ({"asked": 9}, "1 to the least number of facts, 8, got 9"),
        ({"formats": ()}, "at least one format"),
        ({"keys": Letters(1)}, r"draw 256 different words, .* got 52\. Cure"),
        ({"values": WORDS}, r"got 40\. Cure"),
    ],
)
def test_what_cannot_be_is_refused_with_the_cure(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Pairs(codec=Bytes()), **change)


@pytest.mark.parametrize(
    ("line", "ask"),
    [
        (" {key} = ", " {key} ="),
        ("{key} = {value}\n", " {key} ="),
        (" {key} ={value}\n", " {key} ="),
        (" {key} = {value} {value}\n", " {key} ="),
        (" {key} = {value}\n", " {key} = {value}"),
        (" {key} = {value}\n", " what?"),
    ],
)
def test_a_format_without_its_places_is_refused(line: str, ask: str) -> None:
    with pytest.raises(ValueError, match="once in its line"):
        Format(line, ask)


def test_a_question_that_takes_the_space_of_the_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="before the space that belongs to the answer"):
        Format(" {key} = {value}\n", " {key} = ")
