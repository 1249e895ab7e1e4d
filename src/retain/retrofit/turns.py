"""The markers that a chat template puts around what each side says."""

from __future__ import annotations

from typing import Any, Literal

SAID = ("Quokka", "Axolotl", "Narwhal", "Ocelot")
"""What the two sides say, in turns, in the chat from which markers are read off."""


def turn_markers(tokenizer: Any, role: Literal["user", "assistant"]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens before a turn of this role and those behind it, from a special token on and up to one, if there is one.

    Raises:
        ValueError: The role is another, or the template does not mark its turns so that they can be told.
    """
    if role not in ("user", "assistant"):
        raise ValueError(f"turns are those of 'user' or of 'assistant', got {role!r}.")
    chat = [{"role": ("user", "assistant")[i % 2], "content": said} for i, said in enumerate(SAID)]
    text = str(tokenizer.apply_chat_template(chat, tokenize=False))
    special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    places = [text.find(said) for said in SAID]
    before, behind = [], []
    for place, said in zip(places, SAID, strict=True):
        before.append(_encoded(tokenizer, text[: max(place, 0)]))
        behind.append(_encoded(tokenizer, text[place + len(said) :]))
    own = 0 if role == "user" else 1
    start = _shared(before[own][::-1], before[own + 2][::-1])[::-1]
    apart = len(_shared(before[own + 2][::-1], before[1 - own][::-1])) + 1  # so many tokens tell this role from the other
    bounds = [n for n in range(apart, len(start) + 1) if start[-n] in special]
    start = start[-bounds[0] :] if bounds else start
    stop = _shared(behind[own], behind[own + 2])
    bounds = [n for n, token in enumerate(stop) if token in special]
    stop = stop[: bounds[0] + 1] if bounds else stop
    if min(places) < 0 or apart > len(start) or not stop or start == stop:
        raise ValueError(
            f"the tokenizer's chat template does not mark what the {role} says so that it can be told: {text!r}. Cure: MarkedTokens(start=..., stop=...) with "
            "markers of your own."
        )
    return start, stop


def _encoded(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def _shared(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """The longest beginning of both."""
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:same]
