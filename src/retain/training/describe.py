"""Frozen settings as plain data, to be kept beside what they decided."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor


def described(value: Any) -> Any:
    """``value`` in the words of JSON: a dataclass by its kind and fields, a tensor by its size and a digest of its numbers.

    Examples:
        >>> from retain.training import Reading
        >>> described(Reading(rows=4))["rows"]
        4
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__, **{f.name: described(getattr(value, f.name)) for f in fields(value) if f.init}}
    if isinstance(value, Tensor):
        digest = hashlib.sha256(value.detach().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
        return {"kind": "Tensor", "shape": list(value.shape), "digest": digest}
    if isinstance(value, Mapping):
        return {str(name): described(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [described(item) for item in (sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, bytes):
        return {"kind": "bytes", "size": len(value), "digest": hashlib.sha256(value).hexdigest()[:16]}
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def differences(there: Any, now: Any, path: str = "") -> list[str]:
    """Where two descriptions differ, each place in a few words.

    Examples:
        >>> differences({"rows": 4, "seed": 0}, {"rows": 8, "seed": 0})
        ['rows: 4 there, 8 now']
    """
    if isinstance(there, dict) and isinstance(now, dict):
        found: list[str] = []
        for name in [*there, *(name for name in now if name not in there)]:
            found += differences(there.get(name), now.get(name), f"{path}.{name}" if path else name)
        return found
    if isinstance(there, list) and isinstance(now, list) and len(there) == len(now):
        return [part for i, pair in enumerate(zip(there, now, strict=True)) for part in differences(*pair, f"{path}[{i}]")]
    return [] if there == now else [f"{path}: {there!r} there, {now!r} now"]
