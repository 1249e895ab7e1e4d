"""Facts in a story, after bAbI: people walk between rooms, pick things up and drop them; where is one of them now?"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch

from .codec import Bytes, Codec, ask
from .haystack import Haystack, Repeated, hide
from .task import AbstractTask, Fact, Sample

PEOPLE = ("Mary", "John", "Daniel", "Sandra")
ROOMS = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
OBJECTS = ("milk", "football", "apple")
WALK = ("moved to", "went to", "walked to", "travelled to")
TAKE = ("picked up", "grabbed", "took")
DROP = ("dropped", "put down", "left")


class Event(NamedTuple):
    """Somebody does something to a room or an object.

    Examples:
        >>> Event("Mary", "moved to", "kitchen").line
        '\\nMary moved to the kitchen.\\n'
    """

    person: str
    verb: str
    thing: str

    @property
    def line(self) -> str:
        """The event as a line of the story."""
        return f"\n{self.person} {self.verb} the {self.thing}.\n"


@dataclass(frozen=True, kw_only=True)
class Facts(AbstractTask):
    r"""``Mary moved to the kitchen. ... Mary took the milk. ... Where is the milk?``, and ``kitchen`` is asked: the newest fact counts.

    With one supporting fact a person is asked for: where they walked last. With two an object is: who had it last, and where that person is, or
    was when they dropped it. Source: tasks 1 and 2 of bAbI (Weston et al. 2015), scattered in other text as in BABILong (Kuratov et al. 2024). Ours:
    each event is a line of its own at an even random place, aligned to nothing (BABILong puts them between sentences).

    Facts: ``supporting``, ``events``, ``room`` (the answer), ``distance`` (tokens from the room in the event that says it to the place where it is
    asked), ``distance_1`` ... ``distance_n`` (from the beginning of each supporting event to the first asked token, in the order of reasoning: for two,
    who had the object, then where that person was).

    Args:
        supporting: Events that the answer needs, 1 or 2.
        events: Events of the story.
        length: Tokens of a sample, exactly, question and answer included.
        haystack: The text between the events.
        codec: What a token is.

    Raises:
        ValueError: ``supporting`` is not 1 or 2, there are fewer events than that, or the length has no room for them.

    Examples:
        >>> sample = Facts(supporting=2, events=3, length=160).sample(seed=1)
        >>> print(Bytes().decode(sample.tokens.tolist()))
        The sky
        Daniel went to the bathroom.
        is blue. The su
        Daniel picked up the football.
        n is
        Daniel went to the bedroom.
        yellow. H
        Where is the football? bedroom
        >>> Bytes().decode(sample.tokens[sample.asked].tolist()), sample.facts["distance"]
        ('bedroom', 42)
    """

    supporting: Literal[1, 2] = 1
    events: int = 8
    length: int = 1024
    haystack: Haystack = field(default_factory=Repeated)
    codec: Codec = field(default_factory=Bytes)

    def __post_init__(self) -> None:
        if self.supporting not in (1, 2):
            raise ValueError(f"Facts.supporting must be 1 or 2, got {self.supporting}.")
        if self.events < self.supporting:
            raise ValueError(f"Facts.events must be at least supporting={self.supporting}, got {self.events}.")
        longest = Event(max(PEOPLE, key=len), max(WALK, key=len), max(ROOMS, key=len)).line
        needed = self.events * len(self.codec.encode(longest)) + sum(map(len, ask(self.codec, "\nWhere is the football? ", ROOMS[0])))
        if needed > self.length:
            raise ValueError(f"Facts.length={self.length} may have no room for {self.events} events and the question. Cure: length={needed} or more.")

    @property
    def vocab_size(self) -> int:
        return self.codec.vocab_size

    def sample(self, seed: int) -> Sample:
        dice = random.Random(f"facts {seed}")
        told = _tell(self.events, self.supporting, dice)
        question, answer = ask(self.codec, f"\nWhere is {told.subject}? ", told.room)
        tail = torch.tensor(question + answer)
        hidden = hide(self.haystack, [self.codec.encode(event.line) for event in told.story], self.length - len(tail), self.codec, dice)
        first = self.length - len(answer)
        says = told.story[told.support[-1]]
        offset = len(ask(self.codec, *_cut(says))[0])
        facts: dict[str, Fact] = {
            "supporting": self.supporting,
            "events": self.events,
            "room": told.room,
            "distance": first - hidden.starts[told.support[-1]] - offset,
        }
        facts |= {f"distance_{i + 1}": first - hidden.starts[place] for i, place in enumerate(told.support)}
        return Sample(torch.cat([hidden.tokens, tail]), torch.arange(self.length) >= first, facts)


class _Told(NamedTuple):
    """A story, who or what is asked for, the room, and the places in the story of the events that tell it."""

    story: list[Event]
    subject: str
    room: str
    support: tuple[int, ...]


def _tell(events: int, supporting: int, dice: random.Random) -> _Told:
    """A story in which something can be asked for."""
    while True:
        world = _World()
        for _ in range(events):
            world.go_on(dice)
        if supporting == 1 and world.walked:
            person = dice.choice(sorted(world.walked))
            walk = world.walked[person]
            return _Told(world.story, person, world.story[walk].thing, (walk,))
        if supporting == 2 and world.handled:
            thing = dice.choice(sorted(world.handled))
            walk = world.whereabouts(thing)
            return _Told(world.story, f"the {thing}", world.story[walk].thing, (world.handled[thing], walk))


class _World:
    """What has happened so far, and which event of it counts for each person and object."""

    def __init__(self) -> None:
        self.story: list[Event] = []
        self.walked: dict[str, int] = {}  # where in the story each person walked last
        self.handled: dict[str, int] = {}  # where in it each object was taken or dropped last
        self.lies: dict[str, int] = {}  # for each object that was dropped last, where its dropper had walked

    def go_on(self, dice: random.Random) -> None:
        """One more event. Nobody takes what they are not beside; an object that nobody has touched may be anywhere."""
        person, deed = dice.choice(PEOPLE), dice.random()
        here = self.story[self.walked[person]].thing if person in self.walked else None
        near = [
            thing for thing in OBJECTS if here and (thing not in self.handled or (thing in self.lies and self.story[self.lies[thing]].thing == here))
        ]
        held = [thing for thing in self.handled if thing not in self.lies and self.story[self.handled[thing]].person == person]
        if near and deed < 0.3:
            event = Event(person, dice.choice(TAKE), dice.choice(near))
            self.handled[event.thing] = len(self.story)
            self.lies.pop(event.thing, None)
        elif held and deed < 0.5:
            event = Event(person, dice.choice(DROP), dice.choice(held))
            self.handled[event.thing] = len(self.story)
            self.lies[event.thing] = self.walked[person]
        else:
            event = Event(person, dice.choice(WALK), dice.choice([room for room in ROOMS if room != here]))
            self.walked[person] = len(self.story)
        self.story.append(event)

    def whereabouts(self, thing: str) -> int:
        """Where in the story is told in which room a thing is that was handled."""
        return self.lies[thing] if thing in self.lies else self.walked[self.story[self.handled[thing]].person]


def _cut(event: Event) -> tuple[str, str]:
    """The line of an event up to its last word, and that word with what follows."""
    cut = event.line.index(event.thing)
    return event.line[:cut], event.line[cut:]
