"""A memory's texts as lines of JSON."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .acceptable import checked_metadata, checked_text
from .config import checked_positive
from .embedders import Embedder, embedded
from .records import Observed, Record

FORMAT = "retain.text-memory-lines"


def lines(records: Iterable[Record], identity: str) -> Iterator[str]:
    """A line that says what follows, and a line for each record."""
    yield json.dumps({"format": FORMAT, "version": 1, "embedder": identity})
    for record in records:
        seen = record.observed
        plain = {"text": seen.text, "associate": seen.associate, "time": seen.time, "metadata": json.loads(seen.metadata)}
        learnt = {"learning_rate": seen.learning_rate, "key": base64.b64encode(seen.key).decode(), "value": base64.b64encode(seen.value).decode()}
        yield json.dumps({**plain, **learnt}, ensure_ascii=False)


def parsed(path: Path, embedder: Embedder, learning_rate: float) -> list[Observed]:
    """The texts of a file of lines; only ``text`` must be in one. Embeddings are taken over if they are of this embedder, and made anew if not.

    Raises:
        ValueError: A line is not what it should be; it is named, and nothing was learnt.
    """
    found, same = list[Observed](), False
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line.decode())
            if not isinstance(fields, dict):
                raise ValueError("it is no object")
            if number == 1 and fields.get("format") == FORMAT:
                same = fields.get("embedder") == embedder.identity
                continue
            found.append(_observed(fields, embedder if not same else None, embedder, learning_rate))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(
                f'line {number} of {path} cannot be taken in: {error}. Nothing was changed. Cure: lines like {{"text": "..."}}.'
            ) from None
    return found


def _observed(fields: dict[str, Any], anew: Embedder | None, embedder: Embedder, learning_rate: float) -> Observed:
    text, associate = checked_text(fields.get("text")), fields.get("associate")
    if associate is not None:
        checked_text(associate, "associate")
    when = float(fields.get("time", time.time()))
    if not math.isfinite(when):
        raise ValueError(f"time must be finite, got {when}")
    if anew is None and "key" in fields and "value" in fields:
        key, value = (base64.b64decode(fields[name], validate=True) for name in ("key", "value"))
        if not all(len(part) == embedder.width and any(part) and b"\x80" not in part for part in (key, value)):
            raise ValueError(f"its key and value must be embeddings of {embedder.width} bytes from -127 to 127, not all of them zero")
    else:
        key, *others = embedded(embedder, [text] if associate is None else [text, associate])
        value = others[0] if others else key
    rate = checked_positive("learning_rate", float(fields.get("learning_rate", learning_rate)))
    metadata = checked_metadata(fields.get("metadata"))
    return Observed(text=text, associate=associate, time=when, metadata=metadata, key=key, value=value, learning_rate=rate)
