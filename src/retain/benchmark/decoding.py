"""One token at a time: against the peer, and against the tokens read before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .parity import OUTPUT_TOLERANCE, Pair, pair, relative_error
from .plan import Plan
from .settings import DECODING, DECODING_COARSE
from .timing import Times, Watch, in_turns

SPAN = 64  # tokens decoded in a measurement: a whole segment, so that its boundary is paid for
READ = (64, 1_024, 16_384, 65_536)
GROWTH = 1.1  # the slowest over the fastest, at most


def measure_decoding(plan: Plan, watch: Watch) -> dict[str, Any]:
    """Tokens per second of one-token decoding, and seconds per token behind longer and longer streams."""
    watch(0.0, "do the outputs agree?")
    both, coarse = pair(DECODING), pair(DECODING_COARSE)
    error, coarse_error = _error(both), _error(coarse)
    row: dict[str, Any] = {
        "setting": DECODING.name,
        "phase": "one token",
        "what": f"dim {DECODING.dim}, one head, boundary every {DECODING.update_every}",
        "unit": "tokens/s",
        "max_rel_error": error,
        "max_rel_error_coarse": coarse_error,
        "agree": max(error, coarse_error) <= OUTPUT_TOLERANCE,
    }
    if not row["agree"]:
        return {"rows": [row], "after": []}
    contenders = {
        "ours": _from(both.ours, both.x, None),
        "peer": _from(both.peer, both.x, None),
        "ours, coarse": _from(coarse.ours, both.x, None),
        "peer, coarse": _from(coarse.peer, both.x, None),
    }
    times = in_turns(contenders, plan.repeats, plan.warm_ups, lambda done, note: watch(0.05 + 0.5 * done, note))
    rates = {name: taken.rates(SPAN) for name, taken in times.items()}
    target = DECODING.targets.forward
    ratio = rates["ours"]["median"] / rates["peer"]["median"]
    row |= {f"{name}{suffix}": rates[name][key] for name in ("ours", "peer") for suffix, key in (("", "median"), ("_min", "min"), ("_max", "max"))}
    row |= {
        "ratio": ratio,
        "target": target,
        "reached": target is not None and ratio >= target,
        "ours_coarse": rates["ours, coarse"]["median"],
        "peer_coarse": rates["peer, coarse"]["median"],
    }
    return {"rows": [row], **_after(plan, both, lambda done, note: watch(0.55 + 0.45 * done, note))}


def _error(both: Pair) -> float:
    """Over a segment and a half, token by token in both."""
    x = torch.cat([both.x, both.x.flip(1)], dim=1)[:, : SPAN * 3 // 2]
    return relative_error(_decode(both.ours, x, None), _decode(both.peer, x, None))


def _decode(layer: nn.Module, x: torch.Tensor, state: Any) -> torch.Tensor:
    """The outputs of one call per token."""
    outputs = []
    with torch.no_grad():
        for token in x.split(1, dim=1):
            y, state = layer(token, state=state)
            outputs.append(y)
    return torch.cat(outputs, dim=1)


def _from(layer: nn.Module, x: torch.Tensor, state: Any) -> Callable[[], object]:
    return lambda: _decode(layer, x[:, :SPAN], state)


def _after(plan: Plan, both: Pair, watch: Watch) -> dict[str, Any]:
    """Our time per token behind ``READ`` tokens."""
    generator = torch.Generator().manual_seed(1)
    state, read = None, 0
    contenders: dict[str, Callable[[], object]] = {}
    lengths = READ[:2] if plan.quick else READ
    for i, length in enumerate(lengths):
        watch(0.5 * i / len(lengths), f"reading {length:,} tokens")
        while read < length:
            x = torch.randn(1, min(4096, length - read), DECODING.dim, generator=generator)
            with torch.no_grad():
                _, state = both.ours(x, state)
            read += x.shape[1]
        contenders[f"{length:,}"] = _from(both.ours, both.x, state)
    times = in_turns(contenders, 3 * plan.repeats, plan.warm_ups, lambda done, note: watch(0.5 + 0.5 * done, f"decoding after {note} tokens"))
    medians = [times[f"{length:,}"].median / SPAN for length in lengths]
    growth = medians[-1] / medians[0]
    rows = [{"tokens_read": n, "seconds_per_token": s, **_spread(times[f"{n:,}"])} for n, s in zip(lengths, medians, strict=True)]
    return {"after": rows, "after_growth": growth, "after_target": GROWTH, "after_reached": growth <= GROWTH}


def _spread(times: Times) -> dict[str, float]:
    return {"min": min(times.seconds) / SPAN, "max": max(times.seconds) / SPAN}
