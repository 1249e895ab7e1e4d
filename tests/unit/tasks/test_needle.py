"""Needles: each is found by its own line, the newest counts, and nothing else looks like it."""

import re
import time
from dataclasses import replace

import pytest
import torch

from retain.tasks import Book, BytePairs, Bytes, Distractors, Needle, Noise, Repeated, needle
from retain.tasks.needle import LOOKALIKES, MARKS
from tests.unit.tasks.asking import BOOK, PAIRS, check_even, check_solved, parts_of

KINDS = sorted(MARKS)
LINE = re.compile(r"\n(?:The pass key for|One of the special magic (?:numbers|words) for) (\w+) is:? (\w+)\.")


def solve(context: str) -> str:
    """The value of the newest line that begins as the question does."""
    question = context[context.rindex("\n") :].rstrip()
    newest = context[: -len(question) - 1].rindex(question)
    return context[newest + len(question) :].split(".")[0].strip()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [150, 1001, 4096])
@pytest.mark.parametrize("haystack", [Repeated(), Noise(), Noise(of="bytes"), BOOK], ids=["repeated", "words", "bytes", "book"])
def test_the_newest_line_of_the_key_answers(kind: str, length: int, haystack: object) -> None:
    task = Needle(kind=kind, length=length, haystack=haystack)  # pyright: ignore[reportArgumentType]
    check_solved(task, solve, range(10))
    assert {len(task.sample(seed).tokens) for seed in range(10)} == {length}


@pytest.mark.parametrize(("needles", "rebound", "lookalikes"), [(4, 0, 0.0), (1, 3, 0.0), (5, 2, 3.0)])
@pytest.mark.parametrize("codec", [Bytes(), PAIRS], ids=["bytes", "pairs"])
def test_many_needles_rebound_keys_and_lookalikes(needles: int, rebound: int, lookalikes: float, codec: Bytes | BytePairs) -> None:
    for kind in KINDS:
        task = Needle(
            kind=kind,
            needles=needles,
            rebound=rebound,
            length=2000,
            distractors=Distractors(lookalikes=lookalikes, misspelt=lookalikes / 2),
            codec=codec,
            haystack=BOOK,
        )  # pyright: ignore[reportArgumentType]
        check_solved(task, solve, range(15))
        for seed in range(15):
            assert len(task.sample(seed).tokens) == 2000
            context, _ = parts_of(task.sample(seed), codec)
            bound = LINE.findall(context)
            asked = context[context.rindex("\n") :].split(" is")[0].split()[-1]
            assert len(bound) == needles + rebound
            assert len({key for key, _ in bound}) == needles
            assert len({value for _, value in bound}) == needles + rebound
            assert sum(key == asked for key, _ in bound) == 1 + rebound


def test_the_distance_leads_back_to_the_value() -> None:
    for kind in KINDS:
        task = Needle(kind=kind, needles=3, rebound=1, length=1500, distractors=Distractors(lookalikes=3.0))  # pyright: ignore[reportArgumentType]
        for seed in range(20):
            sample = task.sample(seed)
            answer = sample.tokens[sample.asked]
            back = int(sample.asked.int().argmax()) - int(sample.facts["distance"])
            assert torch.equal(sample.tokens[back : back + len(answer)], answer)


def test_lookalikes_and_misspelt_marks_have_their_number_and_never_a_key_that_is_bound() -> None:
    task = Needle(needles=2, rebound=1, length=20_000, distractors=Distractors(lookalikes=10.0, misspelt=5.0), haystack=Noise())
    forms = [re.escape(form).replace(r"\{key\}", "([a-z]{6})").replace(r"\{value\}", r"\d{5}") for form in LOOKALIKES]
    for seed in range(5):
        context, _ = parts_of(task.sample(seed))
        keys = {key for key, _ in LINE.findall(context)}
        found = [re.findall(form, context) for form in forms]
        misspelt = re.findall(r"\n(?!The pass key for )[^\n]{16,17}(\w{6}) is \d{5}\.\n", context)
        assert sum(map(len, found)) == 200
        assert min(map(len, found)) > 10
        assert len(misspelt) == 100
        assert len(keys) == 2
        assert not keys & {key for some in found for key in some}
        assert not keys & set(misspelt)
        assert sorted(context.count(key) for key in keys) == [1, 3]


def test_a_lookalike_never_takes_a_bound_key_when_keys_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needle, "made_up", lambda syllables, dice: dice.choice(["bakoti", "sodizo", "vogato"]))
    context, _ = parts_of(Needle(needles=2, length=5000, distractors=Distractors(lookalikes=4.0, misspelt=4.0)).sample(0))
    (free,) = {"bakoti", "sodizo", "vogato"} - {key for key, _ in LINE.findall(context)}
    assert context.count(free) == 40
    assert sum(map(context.count, ("bakoti", "sodizo", "vogato"))) == 40 + 3


def test_depths_are_even_and_aligned_to_nothing() -> None:
    task = Needle(length=2048)
    facts = [task.sample(seed).facts for seed in range(600)]
    check_even((int(10 * float(fact["depth"])) for fact in facts), 10)
    check_even((int(fact["distance"]) % 8 for fact in facts), 8)


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_even_so_that_a_guess_scores_chance(kind: str) -> None:
    task = Needle(kind=kind, length=200)  # pyright: ignore[reportArgumentType]
    answers = [parts_of(task.sample(seed))[1] for seed in range(400)]
    assert len(set(answers)) > 390
    if kind == "word":
        check_even((answer[i : i + 2] for answer in answers for i in range(0, 8, 2)), 80)
    else:
        for place in range(len(answers[0])):
            check_even((answer[place] for answer in answers), 10)


def test_any_needle_is_asked_for() -> None:
    task = Needle(needles=4, length=600)
    asked_place = []
    for seed in range(200):
        context, answer = parts_of(task.sample(seed))
        asked_place.append([value for _, value in LINE.findall(context)].index(answer))
    check_even(asked_place, 4)


@pytest.mark.parametrize("haystack", [Noise(), Repeated(), BOOK], ids=["noise", "repeated", "book"])
def test_ten_million_tokens_are_drawn_in_seconds(haystack: object) -> None:
    task = Needle(length=10_000_000, needles=4, distractors=Distractors(lookalikes=0.1), haystack=haystack)  # pyright: ignore[reportArgumentType]
    start = time.process_time()
    sample = task.sample(0)
    assert time.process_time() - start < 3
    assert len(sample.tokens) == 10_000_000
    context = bytes(sample.tokens[~sample.asked].to(torch.uint8).numpy()).decode()
    assert solve(context) == Bytes().decode(sample.tokens[sample.asked].tolist())


def test_what_cannot_be_is_refused_with_the_cure() -> None:
    with pytest.raises(ValueError, match=r"length=50 has no room .* Cure: length=\d+"):
        Needle(length=50)
    least = 2 * len("\nThe pass key for bakoti is 48213") + len(".\n")
    assert len(Needle(length=least).sample(0).tokens) == least
    with pytest.raises(ValueError, match=f"Cure: length={least} "):
        Needle(length=least - 1)
    with pytest.raises(ValueError, match="needles=0"):
        Needle(needles=0)
    with pytest.raises(ValueError, match="rebound=-1"):
        Needle(rebound=-1)
    with pytest.raises(ValueError, match="at least 0, less than 1000, got -1"):
        Distractors(lookalikes=-1.0)
    with pytest.raises(ValueError, match="no room"):
        Needle(length=300, distractors=Distractors(lookalikes=40.0))


def test_several_questions_are_asked_one_behind_the_other_and_each_is_answered_by_its_newest_line() -> None:
    task = Needle(needles=5, questions=3, rebound=1, length=800)
    places = []
    for seed in range(30):
        sample = task.sample(seed)
        text = Bytes().decode(sample.tokens.tolist())
        *hay, one, two, three = text.rsplit("\nThe pass key for ", 3)
        newest = dict(LINE.findall("\nThe pass key for ".join(hay)))
        asked = [line.split(" is ") for line in (one, two, three)]
        assert [newest[key] for key, _ in asked] == [value for _, value in asked]
        assert len({key for key, _ in asked}) == 3
        assert Bytes().decode(sample.tokens[sample.asked].tolist()) == "".join(value for _, value in asked)
        places.append(list(newest).index(asked[0][0]))
    assert set(places) == {0, 1, 2, 3, 4}
    with pytest.raises(ValueError, match="questions is 1 to needles=2, got 3"):
        Needle(needles=2, questions=3)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="one of passkey, number, word, got 'uuid'"):
        Needle(kind="uuid")  # pyright: ignore[reportArgumentType]


def test_a_book_wraps_and_its_text_is_the_hay() -> None:
    task = Needle(length=400, haystack=Book.of("tick tock "))
    context, _ = parts_of(task.sample(3))
    assert set(LINE.sub("", context)[: context.rindex("\n") - 60]) <= set("tick tock \n")
    assert replace(task, length=500).sample(3).facts["depth"] == pytest.approx(task.sample(3).facts["depth"], abs=1)
