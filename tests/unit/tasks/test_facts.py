"""Facts in a story: following people and things gives the room, and only the newest counts."""

import re
from dataclasses import replace

import pytest

from retain.tasks import Bytes, Facts, Noise
from retain.tasks.facts import DROP, PEOPLE, ROOMS, TAKE, WALK
from tests.unit.tasks.asking import BOOK, PAIRS, check_even, check_solved, hits, parts_of

EVENT = re.compile(rf"\n({'|'.join(PEOPLE)}) ({'|'.join(WALK + TAKE + DROP)}) the (\w+)\.\n")
SIZES = [
    Facts(events=1, length=100),
    Facts(events=12, length=1500, haystack=BOOK),
    Facts(supporting=2, events=2, length=150, haystack=Noise()),
    Facts(supporting=2, events=30, length=3000, haystack=BOOK),
    Facts(supporting=2, events=8, length=700, haystack=BOOK, codec=PAIRS),
]


def subject_of(context: str) -> str:
    """Who or what the last line asks for."""
    return re.findall(r"^Where is (?:the )?(\w+)\?", context.splitlines()[-1])[0]


def solve(context: str) -> str:
    """Follow everybody and everything through the story."""
    room: dict[str, str] = {}
    holder: dict[str, str] = {}
    for person, verb, thing in EVENT.findall(context):
        if verb in WALK:
            room[person] = thing
        elif verb in TAKE:
            holder[thing] = person
        else:
            room[thing] = room[holder.pop(thing)]
    subject = subject_of(context)
    return room[holder.get(subject, subject)]


@pytest.mark.parametrize("task", SIZES, ids=lambda task: f"{task.supporting} of {task.events}")
def test_following_everybody_answers(task: Facts) -> None:
    check_solved(task, solve, range(30))
    for seed in range(30):
        sample = task.sample(seed)
        assert len(sample.tokens) == task.length
        context, answer = parts_of(sample, task.codec)
        assert len(EVENT.findall(context)) == task.events
        assert sample.facts["room"] == answer.strip()


def test_nobody_takes_or_drops_what_they_cannot() -> None:
    for seed in range(50):
        context, _ = parts_of(Facts(supporting=2, events=40, length=3000).sample(seed))
        room: dict[str, str] = {}
        holder: dict[str, str] = {}
        for person, verb, thing in EVENT.findall(context):
            if verb in WALK:
                assert room.get(person) != thing
                room[person] = thing
            elif verb in TAKE:
                assert thing not in holder
                assert room.get(thing, room[person]) == room[person]
                holder[thing] = person
            else:
                assert holder.pop(thing) == person
                room[thing] = room[person]


@pytest.mark.parametrize("supporting", [1, 2])
def test_rooms_are_even_and_shortcuts_fall_short(supporting: int) -> None:
    task = Facts(supporting=supporting, events=16, length=900)  # pyright: ignore[reportArgumentType]

    def last_room(context: str) -> str:
        return [thing for _, _, thing in EVENT.findall(context) if thing in ROOMS][-1]

    def first_room_of_the_subject(context: str) -> str:
        subject = subject_of(context)
        events = EVENT.findall(context)
        person = next((person for person, _, thing in events if thing == subject), subject)
        return next(thing for who, _, thing in events if who == person and thing in ROOMS)

    texts = [parts_of(task.sample(seed)) for seed in range(300)]
    check_even((answer for _, answer in texts), 6)
    assert hits(lambda _: "kitchen", texts) < 0.25
    assert hits(last_room, texts) < 0.5
    assert hits(first_room_of_the_subject, texts) < 0.5
    assert hits(solve, texts) == 1


@pytest.mark.parametrize("task", SIZES, ids=lambda task: f"{task.supporting} of {task.events}")
def test_distances_lead_back_to_the_facts(task: Facts) -> None:
    for seed in range(20):
        sample = task.sample(seed)
        first = int(sample.asked.int().argmax())
        context, answer = parts_of(sample, task.codec)
        subject = subject_of(context)

        def event(fact: str) -> tuple[str, str, str]:
            text = task.codec.decode(sample.tokens[first - int(sample.facts[fact]) : first].tolist())  # noqa: B023
            return EVENT.findall(text)[0]

        who, _, thing = event("distance_1")
        if task.supporting == 2:
            assert thing == subject
            assert event("distance_2")[::2] == (who, answer.strip())
        else:
            assert (who, thing) == (subject, answer.strip())
        back = task.codec.decode(sample.tokens[first - int(sample.facts["distance"]) : first].tolist())
        assert back.strip().startswith(answer.strip() + ".")


def test_two_facts_may_lie_in_either_order_and_things_are_dropped() -> None:
    orders, verbs = set(), set()
    task = Facts(supporting=2, events=12, length=900)
    for seed in range(80):
        sample = task.sample(seed)
        orders.add(int(sample.facts["distance_1"]) > int(sample.facts["distance_2"]))
        verbs |= {verb for _, verb, _ in EVENT.findall(Bytes().decode(sample.tokens.tolist()))}
    assert orders == {False, True}
    assert verbs == {*WALK, *TAKE, *DROP}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"events": 0}, "at least supporting=1, got 0"),
        ({"supporting": 2, "events": 1}, "at least supporting=2, got 1"),
        ({"length": 200}, r"may have no room for 8 events .* Cure: length=\d+"),
    ],
)
def test_what_cannot_be_is_refused_with_the_cure(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Facts(), **change)


def test_the_least_length_named_is_enough() -> None:
    with pytest.raises(ValueError, match=r"Cure: length=\d+") as refusal:
        Facts(events=20, length=10)
    least = int(re.findall(r"length=(\d+) or", str(refusal.value))[0])
    check_solved(Facts(events=20, length=least), solve, range(40))


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="must be 1 or 2, got 3"):
        Facts(supporting=3)  # pyright: ignore[reportArgumentType]
