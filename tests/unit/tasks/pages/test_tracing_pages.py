"""Dependency tracing over a cut: running the page and then the prompt gives the answer."""

import re
from dataclasses import replace
from typing import Any

import pytest

from retain.tasks import TracingPages
from tests.unit.tasks.asking import PAIRS
from tests.unit.tasks.pages.reading import check_places, text_of

SIZES = [
    TracingPages(hops=1, length=60),
    TracingPages(hops=3, reassigned=2, length=700, asked=3),
    TracingPages(hops=2, arithmetic=True, length=400, asked=2),
    TracingPages(hops=20, length=480, syntax="python"),
    TracingPages(hops=2, reassigned=3, arithmetic=True, length=600, asked=4, syntax="python"),
    TracingPages(hops=2, reassigned=1, length=300, asked=2, codec=PAIRS),
]


def run(text: str, prompt: str) -> str:
    """The value that the prompt asks for, by Python."""
    said: list[int] = []
    program = (text + re.sub(r"What is VAR (\w+)\? ?", r"print(\1)", prompt)).replace("VAR ", "")
    exec(program, {"print": said.append})
    return str(said[0])


@pytest.mark.parametrize("pages", SIZES, ids=range(len(SIZES)))
def test_running_the_page_answers_every_question(pages: TracingPages) -> None:
    for page in pages.batch(range(20)):
        text, prompts = text_of(page.text, pages.codec), [text_of(question.prompt, pages.codec) for question in page.questions]
        answers = [text_of(question.answer, pages.codec).strip() for question in page.questions]
        assert [run(text, prompt) for prompt in prompts] == answers
        assert len(set(prompts)) == pages.asked
        assert len(text.splitlines()) >= pages.asked * (1 + pages.hops + pages.reassigned)


@pytest.mark.parametrize("pages", SIZES, ids=range(len(SIZES)))
def test_distances_lead_back_to_the_assignments(pages: TracingPages) -> None:
    for page in pages.batch(range(20)):
        if not pages.arithmetic and pages.codec is not PAIRS:
            check_places(page)
        for question in page.questions:
            lines = [text_of(page.text[-int(question.facts[f"distance_{hop}"]) :], pages.codec).splitlines()[0] for hop in range(pages.hops + 1)]
            sides = [re.findall(r"(\w+) = (?:VAR )?(\w+)", line)[0] for line in lines]
            assert [source for _, source in sides[1:]] == [name for name, _ in sides[:-1]]
            assert sides[-1][0] in text_of(question.prompt, pages.codec)
            root = text_of(page.text[-int(question.facts["distance"]) :], pages.codec)
            assert root.strip().startswith(f"{sides[0][1]}\n")


@pytest.mark.parametrize("pages", SIZES, ids=range(len(SIZES)))
def test_the_length_is_used_but_for_less_than_an_assignment(pages: TracingPages) -> None:
    for page in pages.batch(range(20)):
        assert pages.length - len("VAR ABCDE = 12345\n") < len(page.text) <= pages.length
        assert page.facts["length"] == len(page.text)


def test_asked_chains_share_no_variable_and_no_number() -> None:
    pages = TracingPages(hops=2, reassigned=2, length=900, asked=5)
    for page in pages.batch(range(20)):
        text = text_of(page.text, pages.codec)
        roots = [text_of(question.answer, pages.codec) for question in page.questions]
        assert [text.count(f" = {root}\n") for root in roots] == [1] * 5
        assert len({question.facts[f"distance_{hop}"] for question in page.questions for hop in range(3)}) == 15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hops": 0}, "hops of 1 to 20 .* got hops=0"),
        ({"hops": 21}, "got hops=21"),
        ({"reassigned": -1}, "reassigned=-1"),
        ({"asked": 0}, "at least 1, got 0"),
        ({"asked": 9}, r"length=512 may have no room for 9 asked chains\. Cure: length=\d+"),
    ],
)
def test_what_cannot_be_is_refused_with_the_cure(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TracingPages(), **change)


def test_the_least_length_named_is_enough() -> None:
    for codec in (TracingPages().codec, PAIRS):
        with pytest.raises(ValueError, match=r"Cure: length=\d+") as refusal:
            TracingPages(asked=3, reassigned=2, length=10, codec=codec)
        least = int(re.findall(r"length=(\d+) or", str(refusal.value))[0])
        pages = TracingPages(asked=3, reassigned=2, length=least, codec=codec)
        assert all(len(page.text) <= least for page in pages.batch(range(30)))
