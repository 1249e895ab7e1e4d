"""The same in a terminal's words: tables of what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from retain.evaluation.result import table

from .comparison import Comparison
from .lines import LineReading
from .reading import LayerReading, Reading
from .terms import OF_LINES, TERMS

TOLD = 10
"""Tokens, lines, heads or records that are named."""


def told(reading: Reading, pieces: Sequence[str]) -> str:
    """What a model's memories did with a text: the numbers of each layer, what surprised most, and what the last traced read draws on.

    Examples:
        >>> from retain.inspection import read
        >>> from retain.models import RetainConfig, RetainForCausalLM
        >>> model = RetainForCausalLM(RetainConfig(vocab_size=256, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, block="lmm"))
        >>> print(told(read(model, torch.tensor(list(b"a boat"))), list("a boat")).splitlines()[1])
        | over tokens and heads | mean | least | most | last |
    """
    parts = []
    for layer in reading.layers:
        rows = [_row(TERMS[name][0], values) for name, values in layer.per_token.items()]
        rows += [_row(TERMS[name][0], values) for name, values in (("norm", layer.norms), ("distance", layer.distances))]
        parts.append(
            f"{layer.name}, {_counted(layer.heads, 'head')}: {layer.rule}\n" + table(["over tokens and heads", "mean", "least", "most", "last"], rows)
        )
    surprise = torch.stack([layer.per_token["surprise"].mean(0) for layer in reading.layers]).mean(0)
    best = surprise.topk(min(TOLD, len(surprise)))
    rows = [
        [f"{amount:.4g}", str(place + 1), _context(pieces, place)] for amount, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    parts.append(table(["surprised most", "token", "in"], rows))
    parts += [_drawn(layer, reading, pieces) for layer in reading.layers if reading.traced]
    return "\n\n".join(parts)


def told_of_lines(reading: LineReading) -> str:
    """What a text memory has to say of lines.

    Examples:
        >>> reading = LineReading(
        ...     lines=("salt",), surprise=torch.ones(1), confidence=torch.zeros(1), recalled=[[]], records={}, rule="titans, dim 16", hash="0"
        ... )
        >>> print(told_of_lines(reading).splitlines()[-1])
        | 1.000 | 1 | salt |
    """
    rows = [_row(OF_LINES[name][0], values) for name, values in (("surprise", reading.surprise), ("confidence", reading.confidence))]
    best = reading.surprise.topk(min(TOLD, len(reading.lines)))
    most = [
        [f"{amount:.3f}", str(place + 1), _short(reading.lines[place])]
        for amount, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    return (
        f"{reading.rule}, weights {reading.hash}\n"
        + table(["over lines", "mean", "least", "most", "last"], rows)
        + "\n\n"
        + table(["surprise", "line", "text"], most)
    )


def told_of_change(comparison: Comparison) -> str:
    """What changed from one state to another, what moved most first.

    Examples:
        >>> import torch
        >>> from retain.inspection.comparison import Kept, compare
        >>> before = Kept(name="a", rule="r", hash="1", seen=(1,), tensors={"w": torch.eye(2)[None]}, records={1: "old"})
        >>> after = Kept(name="b", rule="r", hash="2", seen=(2,), tensors={"w": torch.ones(1, 2, 2)}, records={1: "old", 2: "new"})
        >>> print(told_of_change(compare(before, after)).splitlines()[-1])
        | 2 | new |
    """
    kept, read = (comparison.before, comparison.after), "tokens read" if comparison.before.records is None else "records"
    states = table(
        ["", "before", "after"],
        [["where", *(one.name for one in kept)], ["hash", *(one.hash for one in kept)], [read, *(", ".join(map(str, one.seen)) for one in kept)]],
    )
    ordered = sorted(comparison.changes, key=lambda one: -one.share)
    known = any(one.distances for one in ordered)
    head = [
        "tensor",
        "head",
        "relative change",
        "change",
        "norm before",
        "norm after",
        "cosine",
        *(["from the start, before", "after"] if known else []),
    ]
    rows = [
        [one.tensor, str(one.head), *(f"{number:.4g}" for number in (one.share, one.moved, *one.norms, one.cosine, *(one.distances or ())))]
        for one in ordered
    ]
    parts = [states, "The two are equal." if kept[0].hash == kept[1].hash else table(head, rows)]
    for title, records in (("only after", comparison.came), ("only before", comparison.went)):
        if records:
            some = [[str(number), _short(text)] for number, text in list(records.items())[:TOLD]]
            parts.append(f"{_counted(len(records), 'record')} {title}\n" + table(["record", "text"], some))
    return "\n\n".join(parts)


def _row(name: str, values: Tensor) -> list[str]:
    return [name, *(f"{float(x):.4g}" for x in (values.mean(), values.min(), values.max(), values[..., -1].mean()))]


def _drawn(layer: LayerReading, reading: Reading, pieces: Sequence[str]) -> str:
    at, since, total = reading.traced[-1], reading.since[-1], float(layer.totals[-1, 0])
    found = [(place, weight) for place, weight in zip(layer.places[-1, 0].tolist(), layer.weights[-1, 0].tolist(), strict=True) if place >= 0][:TOLD]
    rows = [[f"{weight:.4g}", f"{weight / total:.0%}", str(place + 1), _context(pieces, place)] for place, weight in found]
    return f"{layer.name}: the read of token {at + 1}, {_context(pieces, at)}, traced back to token {since + 1}, draws on\n" + table(
        ["weight", "share", "token", "in"], rows
    )


def _context(pieces: Sequence[str], place: int) -> str:
    before, after = "".join(pieces[max(0, place - 12) : place])[-12:], "".join(pieces[place + 1 : place + 9])[:8]
    return f"{_plain(before)}[{_plain(pieces[place])}]{_plain(after)}"


def _short(text: str) -> str:
    return _plain(text if len(text) <= 70 else f"{text[:69]}…")


def _plain(text: str) -> str:
    """As it can stand in a table on a terminal."""
    return "".join(c if c.isprintable() and c != "|" else repr(c)[1:-1] for c in text)


def _counted(many: int, noun: str) -> str:
    return f"{many:,} {noun}{'' if many == 1 else 's'}"
