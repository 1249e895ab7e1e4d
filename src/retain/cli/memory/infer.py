"""`retain memory infer`: ask a memory."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ._command import command
from ._opening import Place, Reading, asked
from ._reading import given
from ._telling import Json, say, say_json


@command
def infer(
    text: Annotated[str | None, typer.Argument(help="The question; standard input for - or nothing.")] = None,
    top: Annotated[int, typer.Option(help="How many texts at most.")] = 5,
    temperature: Annotated[float, typer.Option(help="How evenly attention is spread over the texts.")] = 0.1,
    vector: Annotated[bool, typer.Option("--vector", help="With --json: the answer's own numbers, too.")] = False,
    lines: Json = False,
    *,
    place: Place,
    reading: Reading,
) -> None:
    """Ask what the memory has for a question: texts, each with its share of attention and its record. Changes nothing."""
    with asked(place, reading) as memory:
        found: dict[str, Any] = dict(memory.infer(given(text), top=top, temperature=temperature))
    response = found.pop("response").tolist()
    if lines:
        say_json({**found, **({"response": response} if vector else {})})
        return
    say("Confidence ", (f"{found['confidence']:.3f}", "bold"), "." if found["patterns"] else ". Nothing has been observed.")
    for weight, number, pattern in zip(found["attention_weights"], found["ids"], found["patterns"], strict=True):
        say(f"  {weight:.3f}  record {number}  {pattern}")
