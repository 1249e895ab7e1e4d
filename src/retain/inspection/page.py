"""One page of HTML that holds all it needs: styles, code and numbers."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from .comparison import RECORDS, Comparison
from .draws import MOST
from .lines import LineReading
from .reading import Reading
from .terms import DRAWS, OF_LINES, RECALLED, TERMS

PACKAGE = "retain.inspection"
STRETCHED = ("norm", "distance")
"""What is taken behind stretches of tokens, and not of each."""


def text_page(reading: Reading, pieces: Sequence[str], title: str, facts: Sequence[str] = ()) -> str:
    """The page of a text that a model has read.

    Args:
        reading: What its memories did.
        pieces: The text, token by token.
        title: What was read.
        facts: What stands under the title, such as the model's name.

    Raises:
        ValueError: There are not as many pieces as tokens.

    Examples:
        >>> import torch
        >>> from retain.inspection import read
        >>> from retain.models import RetainConfig, RetainForCausalLM
        >>> model = RetainForCausalLM(RetainConfig(vocab_size=256, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, block="lmm"))
        >>> page = text_page(read(model, torch.tensor(list(b"a boat"))), list("a boat"), "A boat")
        >>> page.startswith("<!doctype html>"), "https:" in page
        (True, False)
    """
    if len(pieces) != len(reading.tokens):
        raise ValueError(f"a page shows each token's piece of the text, got {len(pieces)} pieces of {len(reading.tokens)} tokens.")
    arrays, layers = {"bits": reading.bits}, []
    for number, layer in enumerate(reading.layers):
        own = {**layer.per_token, "norm": layer.norms, "distance": layer.distances}
        if reading.traced:
            own |= {"places": layer.places, "weights": layer.weights, "totals": layer.totals}
        arrays |= {f"{number}.{name}": values for name, values in own.items()}
        layers.append({"name": layer.name, "rule": layer.rule, "heads": layer.heads, "channels": list(layer.per_token), "stretched": list(STRETCHED)})
    data = {
        "pieces": list(pieces),
        "layers": layers,
        "stretch": reading.stretch,
        "traced": list(reading.traced),
        "since": list(reading.since),
        "most": MOST,
        "start": reading.traced[0] if reading.traced else 0,
        "terms": TERMS,
        "draws": DRAWS,
    }
    return _text("model", title, facts, data, arrays)


def memory_page(reading: LineReading, title: str, facts: Sequence[str] = ()) -> str:
    """The page of lines that were held against a text memory.

    Args:
        reading: What the memory has to say of them.
        title: What was read.
        facts: What stands under the title.

    Examples:
        >>> import torch
        >>> reading = LineReading(
        ...     lines=("salt",), surprise=torch.ones(1), confidence=torch.zeros(1), recalled=[[]], records={}, rule="titans, dim 16", hash="0"
        ... )
        >>> memory_page(reading, "Notes").count("<title>")
        1
    """
    layer = {"name": "memory", "rule": reading.rule, "heads": 1, "channels": list(OF_LINES), "stretched": []}
    data = {
        "pieces": list(reading.lines),
        "layers": [layer],
        "stretch": 1,
        "traced": [],
        "since": [],
        "most": 0,
        "start": 0,
        "terms": OF_LINES,
        "draws": RECALLED,
        "range": [0, 1],
        "recalled": reading.recalled,
        "records": reading.records,
    }
    return _text("memory", title, facts, data, {"0.surprise": reading.surprise[None], "0.confidence": reading.confidence[None]})


def comparison_page(comparison: Comparison) -> str:
    """The page of what changed from one state to another.

    Examples:
        >>> import torch
        >>> from retain.inspection.comparison import Kept, compare
        >>> before = Kept(name="a", rule="r", hash="1", seen=(1,), tensors={"w": torch.eye(2)[None]}, records={1: "old"})
        >>> after = Kept(name="b", rule="r", hash="2", seen=(2,), tensors={"w": torch.ones(1, 2, 2)}, records={1: "old", 2: "new"})
        >>> comparison_page(compare(before, after)).count("<title>")
        1
    """
    before, after = comparison.before, comparison.after
    data = {
        "states": [{"name": kept.name, "hash": kept.hash, "seen": list(kept.seen), "records": kept.records is not None} for kept in (before, after)],
        "rule": after.rule,
        "changes": [
            {
                "tensor": change.tensor,
                "head": change.head,
                "before": change.norms[0],
                "after": change.norms[1],
                "moved": change.moved,
                "share": _finite(change.share),
                "cosine": _finite(change.cosine),
                "from": None if change.distances is None else list(change.distances),
            }
            for change in comparison.changes
        ],
        "came": _first(comparison.came),
        "went": _first(comparison.went),
        "counts": [len(comparison.came), len(comparison.went)],
    }
    title = f"{before.name} → {after.name}"
    return assembled("compare", title, "compare.html", data, {}, ("base.js", "compare.js"))


def _first(records: Mapping[int, str]) -> list[list[int | str]]:
    return [[number, text] for number, text in list(records.items())[:RECORDS]]


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def assembled(kind: str, title: str, body: str, data: Mapping[str, Any], arrays: Mapping[str, Tensor], scripts: Sequence[str]) -> str:
    """The parts as one page; what is data cannot be taken for code."""
    numbers = "".join(_script(name, values) for name, values in arrays.items())
    whole = {"kind": kind, "title": title, "made": f"Made by retain {version('retain')}. The page needs no network.", **data}
    parts = {
        "title": html.escape(f"{title} · retain inspect"),
        "kind": kind,
        "style": _part("style.css"),
        "body": _part(body),
        "data": json.dumps(whole, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        "arrays": numbers,
        "script": "\n".join(_part(name) for name in scripts),
    }
    before, *rest = _part("shell.html").split("{{")
    return before + "".join(parts[name] + after for name, after in (piece.split("}}", 1) for piece in rest))


def _text(kind: str, title: str, facts: Sequence[str], data: Mapping[str, Any], arrays: Mapping[str, Tensor]) -> str:
    whole = {"facts": list(facts), "count": len(data["pieces"]), "stretched": list(STRETCHED), **data}
    return assembled(kind, title, "text.html", whole, arrays, ("base.js", "charts.js", "text.js"))


def _part(name: str) -> str:
    return (files(PACKAGE) / "page" / name).read_text(encoding="utf-8")


def _script(name: str, values: Tensor) -> str:
    kind = "f4" if values.is_floating_point() else "i4"
    plain = values.detach().cpu().to(torch.float32 if kind == "f4" else torch.int32).contiguous().numpy()
    text = base64.b64encode(plain.astype(f"<{kind}").tobytes()).decode()
    return f'<script type="text/plain" data-type="{kind}" id="array-{name}">{text}</script>\n'
