"""What a memory beside the attention of every layer costs a pretrained model: a long call, single tokens, and a stream whose attention is cut."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from retain.retrofit import MemoryCache, MemoryConfig, attach, branches_of, disable_memory
from retain.retrofit.smollm2 import default_folder

from .apart import apart
from .plan import Plan
from .timing import Times, Watch, in_turns

PLACE = "RETAIN_SMOLLM2"
"""The variable that names the model's folder, if it is not where `retain retrofit fetch-smollm2` puts it."""

CALL, READ, SPAN = 2048, 512, 64  # tokens of the long call; before single tokens; single tokens, which make a whole step
STREAM, PIECE = 102_400, 1024
STRENGTH = 0.5  # gates stand open: the answers of the memories go into the stream
SLOWER, SLOWEST, MORE_MEMORY = (
    1.4,
    0.8,
    1.1,
)  # time of the long call, at most; speed of single tokens, at least; resident memory along the stream, at most


def measure_retrofit(plan: Plan, watch: Watch) -> dict[str, Any]:
    """SmolLM2-135M with memories in all layers against itself without; a reason in words if it is not there."""
    folder = Path(os.environ.get(PLACE) or default_folder())
    if not (folder / "config.json").is_file():
        return {"skipped": f"There is no SmolLM2-135M in '{folder}'. Cure: `retain retrofit fetch-smollm2`, or name its folder in {PLACE}."}
    return apart(measure_model, str(folder), plan.repeats, plan.warm_ups, plan.quick, watch=watch)


def measure_model(folder: str, repeats: int, warm_ups: int, quick: bool, watch: Watch) -> dict[str, Any]:
    """What ``measure_retrofit`` says, of the causal language model in a folder."""
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    own = sum(weight.numel() for weight in model.parameters())
    attach(model, MemoryConfig(strength=STRENGTH)).eval()
    call, read, span = (CALL // 16, READ // 8, SPAN) if quick else (CALL, READ, SPAN)
    ids = torch.randint(model.config.vocab_size, (1, call), generator=torch.Generator().manual_seed(0))
    rows = []
    makers = (("forward", call, _forward(model, ids)), ("one token", span, _decoding(model, ids[:, :read], ids[:, -span:])))
    for i, (phase, tokens, contender) in enumerate(makers):
        calls = {"base": contender(lambda: disable_memory(model)), "with memories": contender(nullcontext)}
        times = in_turns(calls, repeats, warm_ups, lambda done, note, i=i, phase=phase: watch((i + done) / 4, f"{phase}, {note}"))
        rows.append(_row(phase, tokens, times))
    branches = branches_of(model)
    what = (
        f"{len(branches)} layers of width {model.config.hidden_size} with {own / 1e6:.0f} M weights, and {sum(_size(b) for b in branches) / 1e6:.1f} M in the "
        f"memories; {branches[0].memory.heads} heads x {branches[0].memory.head_dim}, a step for each {branches[0].memory.rule.step_every} tokens; "
        f"a call of {call:,} tokens; single tokens behind {read}"
    )
    return {"what": what, "rows": rows, "stream": _stream(model, 4 * PIECE if quick else STREAM, PIECE // 8 if quick else PIECE, watch)}


def _size(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


Within = Callable[[], AbstractContextManager[Any]]


def _forward(model: PreTrainedModel, ids: Tensor) -> Callable[[Within], Callable[[], object]]:
    def contender(within: Within) -> Callable[[], object]:
        def call() -> None:
            with torch.no_grad(), within():
                model(ids, past_key_values=MemoryCache(model.config), use_cache=True, logits_to_keep=1)

        return call

    return contender


def _decoding(model: PreTrainedModel, before: Tensor, ids: Tensor) -> Callable[[Within], Callable[[], object]]:
    def contender(within: Within) -> Callable[[], object]:
        start = MemoryCache(model.config)
        with torch.no_grad(), within():
            model(before, past_key_values=start, use_cache=True, logits_to_keep=1)

        def call() -> None:
            cache = start.fork()
            with torch.no_grad(), within():
                for token in ids.split(1, dim=1):
                    model(token, past_key_values=cache, use_cache=True, logits_to_keep=1)

        return call

    return contender


def _row(phase: str, tokens: int, times: dict[str, Times]) -> dict[str, Any]:
    """The phase with its target; the ratio is the median of those of the rounds, in each of which both were slowed down alike."""
    ratios = Times(tuple(own / base for own, base in zip(times["with memories"].seconds, times["base"].seconds, strict=True)))
    rates = {name: taken.rates(tokens) for name, taken in times.items()}
    whole = phase == "forward"
    ratio, target = ratios.median if whole else 1 / ratios.median, SLOWER if whole else SLOWEST
    return {
        "phase": phase,
        "tokens": tokens,
        **rates,
        "ratio": ratio,
        "target": target,
        "reached": ratio <= target if whole else ratio >= target,
    }


def _stream(model: PreTrainedModel, tokens: int, piece: int, watch: Watch) -> dict[str, Any]:
    """A stream in pieces, each of which attends to itself alone: bytes of the memories' states, and the resident memory after a tenth and at the end."""
    generator, process = torch.Generator().manual_seed(1), psutil.Process()
    cache, sizes, resident = MemoryCache(model.config), set[int](), []
    for read in range(0, tokens, piece):
        watch(0.5 + 0.5 * read / tokens, f"{read:,} tokens of a stream")
        ids = torch.randint(model.config.vocab_size, (1, piece), generator=generator)
        cache = cache.memories_only()
        with torch.no_grad():
            model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        sizes.add(cache.bytes_per_row())
        resident.append(process.memory_info().rss)
    more = max(resident) / max(resident[: max(1, len(resident) // 10)])
    return {
        "tokens": tokens,
        "piece": piece,
        "state_bytes": sorted(sizes),
        "finite": all(bool(torch.isfinite(t).all()) for state in cache.memories for _, t in state.tensors()),
        "resident_ratio": more,
        "target": MORE_MEMORY,
        "reached": more <= MORE_MEMORY and len(sizes) == 1,
    }
