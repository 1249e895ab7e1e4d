"""Hash-Hop over a cut: the chain that a prompt begins leads through the text of the page to the answer."""

import re
from dataclasses import replace
from typing import Any

import pytest

from retain.tasks import Bytes, HashHop, HashHopPages
from tests.unit.tasks.asking import PAIRS, check_even, parts_of
from tests.unit.tasks.pages.reading import text_of

SIZES = [
    HashHopPages(hops=1, letters=2, chains=1),
    HashHopPages(hops=3, letters=4, chains=(3, 30), asked=3),
    HashHopPages(hops=2, letters=6, chains=8, asked=8, thought=True),
    HashHopPages(hops=2, letters=4, chains=(2, 9), asked=2, codec=PAIRS),
    HashHopPages(hops=1, letters=4, chains=(2, 9), asked=2, codec=PAIRS, wording="bare"),
    HashHopPages(hops=3, letters=4, chains=5, asked=2, thought=True, wording="bare"),
]


def bound(text: str) -> dict[str, str]:
    """What stands left and right in each line."""
    return dict(line.strip().split(" = ") for line in text.splitlines())


def solve(text: str, prompt: str) -> str:
    """Follow the lines of the page from the hash that the prompt ends with until a value is in quotes, or leads no further."""
    if not prompt.startswith("COMPLETION"):
        (hash_,), way = re.findall(r"^ (\w+) =$", prompt), ""
        while hash_ in bound(text):
            hash_ = bound(text)[hash_]
            way += f" = {hash_}"
        return way.removeprefix(" =")
    hash_, way = re.findall(r"(\w+) = '$", prompt)[0], []
    while not hash_.startswith("'"):
        hash_ = bound(text)[hash_]
        way.append(hash_.strip("'"))
    assert f"Hops={len(way)}\n" in prompt
    return " = ".join(way) if "CoT=True" in prompt else way[-1]


@pytest.mark.parametrize("pages", SIZES, ids=range(len(SIZES)))
def test_the_text_leads_from_the_prompt_to_the_answer(pages: HashHopPages) -> None:
    for page in pages.batch(range(20)):
        text, prompts = text_of(page.text, pages.codec), [text_of(question.prompt, pages.codec) for question in page.questions]
        assert [solve(text, prompt) for prompt in prompts] == [text_of(question.answer, pages.codec) for question in page.questions]
        assert len(set(prompts)) == pages.asked
        assert (len(text.splitlines()), len(page.text)) == (int(page.facts["chains"]) * pages.hops, page.facts["length"])


@pytest.mark.parametrize("pages", SIZES, ids=range(len(SIZES)))
def test_all_hashes_differ(pages: HashHopPages) -> None:
    for page in pages.batch(range(20)):
        lines = bound(text_of(page.text, pages.codec))
        hashes = {*lines, *(value.strip("'") for value in lines.values())}
        assert len(hashes) == int(page.facts["chains"]) * (pages.hops + 1)
        assert {len(hash_) for hash_ in hashes} == {pages.letters}


@pytest.mark.parametrize("pages", SIZES, ids=range(len(SIZES)))
def test_distances_lead_back_to_the_lines_and_to_the_last_hash(pages: HashHopPages) -> None:
    for page in pages.batch(range(20)):
        for question in page.questions:
            here = text_of(question.prompt, pages.codec).splitlines()[-1].split(" =")[0].strip()
            for hop in range(pages.hops):
                left, right = text_of(page.text[-int(question.facts[f"distance_{hop + 1}"]) :], pages.codec).splitlines()[0].strip().split(" = ")
                assert left == here
                here = right.strip("'")
            last = text_of(page.text[-int(question.facts["distance"]) :], pages.codec)
            assert last.startswith(f"{here}'\n" if pages.wording == "magic" else f" {here}\n")
            assert text_of(question.answer, pages.codec).endswith(here)


def test_the_prompt_is_the_completion_of_hash_hop() -> None:
    task, pages = HashHop(hops=2, letters=3, length=120, thought=True), HashHopPages(hops=2, letters=3, chains=4, thought=True)
    context, _ = parts_of(task.sample(0))
    prompt = text_of(pages.page(0).questions[0].prompt, Bytes())
    assert context[context.index("COMPLETION") : -len("abc = '")] == prompt[: -len("abc = '")]


def test_the_asked_line_lies_anywhere() -> None:
    pages = HashHopPages(hops=2, letters=4, chains=5)
    distances = [page.questions[0].facts for page in pages.batch(range(200))]
    check_even((int(facts["distance_1"]) > int(facts["distance_2"]) for facts in distances), 2)
    check_even(((int(facts["distance_1"]) - 1) * 5 // 120 for facts in distances), 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hops": 0}, "hops of 1 to 6, got 0"),
        ({"hops": 7}, "hops of 1 to 6, got 7"),
        ({"letters": 0}, "letters=0"),
        ({"letters": 1}, r"about 192 different hashes, and of letters=1 there are 52; .* Cure"),
        ({"chains": (0, 4)}, "HashHopPages.chains must be"),
        ({"asked": 5}, "1 to the least number of chains, 4, got 5"),
        ({"asked": 0}, "got 0"),
    ],
)
def test_what_cannot_be_is_refused_with_the_cure(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(HashHopPages(), **change)
