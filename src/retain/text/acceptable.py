"""What a text memory takes in, and what it refuses before anything changes."""

from __future__ import annotations

import json
from typing import Any

MOST_BYTES = 65_536  # of one text, or of its metadata


def checked_text(text: object, what: str = "text") -> str:
    """The text itself.

    Raises:
        TypeError: It is not a string.
        ValueError: It is empty, too long, holds a NUL, or cannot be written as UTF-8.
    """
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a str, got {type(text).__name__}. Cure: decode bytes first, as in data.decode('utf-8').")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} is not valid Unicode: {error.reason} at character {error.start}. Cure: text.encode('utf-8', 'replace').decode()."
        ) from None
    if not text.strip():
        raise ValueError(f"{what} is empty: there is nothing to remember in {text[:20]!r}.")
    if "\0" in text:
        raise ValueError(f"{what} holds a NUL character at place {text.index(chr(0))}. Cure: text.replace('\\0', '').")
    if size > MOST_BYTES:
        raise ValueError(
            f"{what} has {size} bytes, and {MOST_BYTES} is the most one may have. Cure: split it, and observe its passages one after the other."
        )
    return text


def checked_metadata(metadata: object) -> str:
    """The metadata as JSON.

    Raises:
        ValueError: It is no dictionary that JSON can hold, or too long.
    """
    if metadata is None:
        return "{}"
    if not isinstance(metadata, dict) or not all(isinstance(name, str) for name in metadata):
        raise ValueError(f"metadata must be a dictionary with names as keys, got {type(metadata).__name__}.")
    try:
        text = json.dumps(metadata, allow_nan=False)
        same: Any = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"metadata must be what JSON can hold: {error}.") from None
    if same != metadata:
        raise ValueError("metadata comes back from JSON as something else. Cure: lists for tuples, and names for keys.")
    if len(text) > MOST_BYTES:
        raise ValueError(f"metadata has {len(text)} bytes as JSON, and {MOST_BYTES} is the most it may have.")
    return text
