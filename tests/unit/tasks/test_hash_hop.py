"""Hash-Hop: the chain leads to the answer, hashes differ, and no line helps by its place."""

import re
from dataclasses import replace

import pytest

from retain.tasks import BytePairs, Bytes, HashHop
from tests.unit.tasks.asking import PAIRS, check_even, check_solved, parts_of

SIZES = [
    HashHop(hops=1, letters=2, length=100),
    HashHop(hops=1, letters=2, length=5000),
    HashHop(hops=2, letters=8, length=1024),
    HashHop(hops=6, letters=16, length=3000),
    HashHop(hops=4, letters=5, length=700, thought=True),
    HashHop(hops=1, letters=3, length=150, thought=True),
    HashHop(hops=3, letters=4, length=600, codec=PAIRS),
]


def solve(context: str) -> str:
    """Follow ``A = B`` from the key that stands last until a value is in quotes."""
    story, completion = context.split("COMPLETION:\n")
    bound = dict(line.split(" = ") for line in story.splitlines())
    hash_, way = completion.splitlines()[-1].split(" = ")[0], []
    while not hash_.startswith("'"):
        hash_ = bound[hash_]
        way.append(hash_.strip("'"))
    assert f"Hops={len(way)}\n" in completion
    return " = ".join(way) if "CoT=True" in completion else way[-1]


@pytest.mark.parametrize("task", SIZES, ids=lambda task: f"{task.hops} hops of {task.letters}")
def test_the_chain_leads_to_the_answer(task: HashHop) -> None:
    check_solved(task, solve, range(20))


@pytest.mark.parametrize("task", SIZES, ids=lambda task: f"{task.hops} hops of {task.letters}")
def test_the_length_is_used_but_for_less_than_a_chain(task: HashHop) -> None:
    for seed in range(10):
        sample = task.sample(seed)
        chain = int(sample.facts["chains"])
        body = len(task.codec.encode(parts_of(sample, task.codec)[0].split("COMPLETION")[0]))
        assert task.length - 1.5 * body / chain < len(sample.tokens) <= task.length
        if isinstance(task.codec, Bytes):
            assert task.length - body / chain < len(sample.tokens)


@pytest.mark.parametrize("task", SIZES, ids=lambda task: f"{task.hops} hops of {task.letters}")
def test_all_hashes_differ_and_every_line_is_in_a_chain(task: HashHop) -> None:
    for seed in range(10):
        context, _ = parts_of(task.sample(seed), task.codec)
        lines = re.findall(r"^([a-zA-Z]+) = ('?)([a-zA-Z]+)'?$", context.split("COMPLETION")[0], re.MULTILINE)
        left, right = [line[0] for line in lines], [line[2] for line in lines]
        chains = len(lines) // task.hops
        assert len(set(left)) == len(left)
        assert len(set(right)) == len(right)
        assert len(set(left) | set(right)) == chains * (task.hops + 1)
        assert sum(quote == "'" for _, quote, _ in lines) == chains
        assert {len(hash_) for hash_ in left + right} == {task.letters}


def test_several_queries_are_answered_one_behind_the_other() -> None:
    task = HashHop(hops=2, letters=4, length=400, queries=3)
    for seed in range(10):
        sample = task.sample(seed)
        text = Bytes().decode(sample.tokens.tolist())
        story, completion = text.split("CoT=False\n\n")
        asked = "".join(chr(token) if is_asked else " " for token, is_asked in zip(sample.tokens.tolist(), sample.asked.tolist(), strict=True))
        queries = re.findall(r"(\w+) = '(\w+)", completion)
        assert len(queries) == 3
        assert asked.split() == [value for _, value in queries]
        assert [solve(f"{story}CoT=False\n\n{key} = '") for key, _ in queries] == asked.split()


@pytest.mark.parametrize("task", [SIZES[2], SIZES[4], SIZES[6]], ids=["plain", "thought", "pairs"])
def test_distances_lead_back_to_the_lines(task: HashHop) -> None:
    for seed in range(10):
        sample = task.sample(seed)
        context, answer = parts_of(sample, task.codec)
        first, here = int(sample.asked.int().argmax()), context.splitlines()[-1].split(" = ")[0]
        for hop in range(task.hops):
            start = first - int(sample.facts[f"distance_{hop + 1}"])
            line = task.codec.decode(sample.tokens[start:first].tolist()).splitlines()[0]
            assert line.split(" = ")[0] == here
            here = line.split(" = ")[1].strip("'")
        back = first - int(sample.facts["distance"])
        assert task.codec.decode(sample.tokens[back:first].tolist()).startswith(answer.split(" = ")[-1])


def test_the_lines_of_the_asked_chain_lie_anywhere() -> None:
    task = HashHop(hops=2, letters=4, length=600)
    facts = [task.sample(seed).facts for seed in range(200)]
    check_even((int(fact["distance_1"]) > int(fact["distance_2"]) for fact in facts), 2)
    check_even((int(fact["distance_1"]) * 5 // 600 for fact in facts if int(fact["distance_1"]) > 60), 5)


def test_letters_are_even_so_that_a_guess_scores_chance() -> None:
    task = HashHop(hops=2, letters=4, length=300)
    answers = [parts_of(task.sample(seed))[1] for seed in range(200)]
    check_even((letter for answer in answers for letter in answer), 52)
    assert len(set(answers)) == 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hops": 0}, "1 to 6, got 0"),
        ({"hops": 7}, "1 to 6, got 7"),
        ({"letters": 0}, "letters=0"),
        ({"queries": 0}, "queries=0"),
        ({"length": 60}, r"no room for 1 chains of 2 lines .* Cure: length=\d+"),
        ({"letters": 1}, "there are 52"),
        ({"letters": 2, "length": 40_000}, "there are 2704"),
    ],
)
def test_what_cannot_be_is_refused_with_the_cure(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(HashHop(), **change)


def test_the_least_length_named_is_enough() -> None:
    with pytest.raises(ValueError, match=r"Cure: length=\d+") as refusal:
        HashHop(length=10)
    least = int(re.findall(r"length=(\d+) or", str(refusal.value))[0])
    check_solved(HashHop(length=least), solve, range(5))
    assert isinstance(PAIRS, BytePairs)
