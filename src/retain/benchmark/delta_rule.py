"""The delta rule and the gated one, against the chunk-wise forms in plain torch that fla-core keeps to check its kernels by."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files, version
from typing import Any

import torch
from torch import Tensor

from retain import MemoryRule, MemoryState, presets
from retain.core.tokens import Tokens
from retain.engines import select

from .parity import OUTPUT_TOLERANCE, relative_error
from .peer import PeerMissing
from .plan import Plan
from .timing import Watch, in_turns

RULER, RULER_VERSION = "fla-core", "0.6.0"
TIME, HEADS, WIDTH = 4096, 4, 64
AT_LEAST = 1.0


def measure_delta_rule(plan: Plan, watch: Watch) -> dict[str, Any]:
    """Forward calls of both libraries on the same numbers, in turns, once their outputs agree.

    Raises:
        PeerMissing: fla-core is not installed, or has another version.
    """
    time, source = TIME // 8 if plan.quick else TIME, torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, time, HEADS, WIDTH, generator=source) for _ in range(3))
    k, scale = k / k.norm(dim=-1, keepdim=True), WIDTH**-0.5
    rate, kept = torch.rand(1, time, HEADS, generator=source), 0.9 + 0.1 * torch.rand(1, time, HEADS, generator=source)
    plain, gated = _chunk_forms()
    pairs: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]] = {
        "delta rule": (
            _ours(presets.delta_net(), Tokens(k=k.unsqueeze(3), v=v.unsqueeze(3), q=q * scale, lr=rate.unsqueeze(-1))),
            lambda: plain(*(x.transpose(1, 2).contiguous() for x in (q, k, v, rate)))[0].transpose(1, 2),
        ),
        "gated delta rule": (
            _ours(presets.gated_delta_net(), Tokens(k=k.unsqueeze(3), v=v.unsqueeze(3), q=q * scale, lr=rate.unsqueeze(-1), retain=kept)),
            lambda: gated(q, k, v, kept.log(), rate)[0],
        ),
    }
    rows = []
    for i, (name, (ours, theirs)) in enumerate(pairs.items()):
        with torch.no_grad():
            error = relative_error(ours(), theirs())
            row: dict[str, Any] = {"rule": name, "max_rel_error": error, "agree": error <= OUTPUT_TOLERANCE}
            if row["agree"]:
                calls = {"ours": ours, RULER: theirs}
                times = in_turns(calls, 2 * plan.repeats, plan.warm_ups, lambda done, note, i=i, name=name: watch((i + done) / 2, f"{name}, {note}"))
                faster = times[RULER].median / times["ours"].median
                row |= {"ours": times["ours"].rates(time), "theirs": times[RULER].rates(time), "faster": faster, "reached": faster >= AT_LEAST}
        rows.append(row)
    return {"what": f"{HEADS} heads x {WIDTH}, T {time}, forward", "target": AT_LEAST, "rows": rows}


def _ours(rule: MemoryRule, tokens: Tokens) -> Callable[[], Tensor]:
    engine = select(rule)
    return lambda: engine.run(rule, tokens, MemoryState.start(rule, {"w": torch.zeros(HEADS, WIDTH, WIDTH)}, 1))[0]


def _chunk_forms() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Its functions for both rules. Their files are read by themselves: the package as a whole wants a GPU's compiler."""
    try:
        found = version(RULER)
        listed = files(RULER) or []
    except PackageNotFoundError as missing:
        raise PeerMissing(
            f"the delta rule is compared with {RULER} {RULER_VERSION}, which is not installed ({missing}). Cure: pip install 'retain[bench]'"
        ) from None
    if found != RULER_VERSION:
        raise PeerMissing(
            f"the delta rule is compared with {RULER} {RULER_VERSION}; version {found} is installed. Cure: pip install '{RULER}=={RULER_VERSION}'"
        )
    modules = []
    for name in ("delta_rule", "gated_delta_rule"):
        path = next(entry.locate() for entry in listed if entry.as_posix() == f"fla/ops/{name}/naive.py")
        spec = importlib.util.spec_from_file_location(f"{name}_in_chunks", path)
        assert spec is not None
        assert spec.loader is not None
        modules.append(importlib.util.module_from_spec(spec))
        spec.loader.exec_module(modules[-1])
    return modules[0].delta_rule_chunkwise, modules[1].naive_chunk_gated_delta_rule
