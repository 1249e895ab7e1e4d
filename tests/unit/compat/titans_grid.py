"""Combinations of titans-pytorch's arguments in which every value of every option meets every value of every other, so far as theirs allows it."""

from __future__ import annotations

import itertools
import random
from typing import Any

import titans_pytorch
import torch
from torch import Tensor, nn

DIM = 8


class Waves(nn.Module):
    """A network that neither library has a name for."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.way_in, self.way_out = (nn.Parameter(torch.randn(dim, dim)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x @ self.way_in) @ self.way_out


NETWORKS = {
    "default": lambda dim: None,
    "linear": lambda dim: titans_pytorch.MemoryMLP(dim, 1),
    "deep": lambda dim: titans_pytorch.MemoryMLP(dim, 3, 1.5),
    "gated": lambda dim: titans_pytorch.GatedResidualMemoryMLP(dim, 2, 2.0),
    "low rank": lambda dim: titans_pytorch.FactorizedMemoryMLP(dim, 2, k=3),
    "swiglu": lambda dim: titans_pytorch.MemorySwiGluMLP(dim, 1),
    "attention": lambda dim: titans_pytorch.MemoryAttention(dim),
    "any module": lambda dim: Waves(dim),
}
MOMENTA: dict[str, dict[str, Any]] = {
    "none": {"momentum": False},
    "one": {},
    "two": {"momentum_order": 2},
    "mixed": {"momentum_order": 2, "learned_momentum_combine": True},
    "mixed with surprise": {"momentum_order": 2, "learned_momentum_combine": True, "learned_combine_include_zeroth": True},
}
OPTIONS: dict[str, tuple[Any, ...]] = {
    "chunk_size": (1, 4),
    "batch_size": (None, 8),
    "heads": (1, 2),
    "network": tuple(NETWORKS),
    "momenta": tuple(MOMENTA),
    "default_step_transform_max_lr": (1.0, 0.1),
    "layer_modulation": (None, 1.0, 3.0),
    "per_head_learned_parameters": (True, False),
    "attn_pool_chunks": (False, True),
    "num_kv_per_token": (1, 2),
    "qkv_receives_diff_views": (False, True),
    "pre_rmsnorm": (True, False),
    "post_rmsnorm": (False, True),
    "qk_rmsnorm": (False, True),
    "max_grad_norm": (None, 2.0),
    "activated": (False, True),
    "spectral_norm_surprises": (False, True),
    "gated_transition": (False, True),
    "mem_model_norm_add_residual": (True, False),
    "store_with_lookahead_value": (False, True),
    "accept_weight_residual": (False, True),
    "masked": (False, True),
}


def allowed(chosen: dict[str, Any]) -> bool:
    """Whether theirs runs these together and means something by it."""
    whole = {name: chosen.get(name, values[0]) for name, values in OPTIONS.items()}
    single = "chunk_size" in chosen and whole["chunk_size"] == 1
    refused = (
        single and whole["attn_pool_chunks"],
        single and whole["store_with_lookahead_value"],  # theirs stores nothing, or pairs of one token only
        single and whole["masked"] and whole["max_grad_norm"],  # NaN in theirs
        whole["network"] == "attention" and whole["max_grad_norm"] and (single or whole["masked"]),  # so is it where a token sees itself alone
        "batch_size" in chosen and whole["batch_size"] is None and whole["gated_transition"],  # no boundary ever
    )
    return not any(refused)


def grid(least: int = 60) -> list[dict[str, Any]]:
    """At least so many combinations that hold all allowed pairs of values."""
    source = random.Random(0)
    missing = {
        ((a, x), (b, y))
        for (a, xs), (b, ys) in itertools.combinations(OPTIONS.items(), 2)
        for x, y in itertools.product(xs, ys)
        if allowed({a: x, b: y}) and not any(not allowed({a: x, b: y, **forced}) for forced in _forced({a: x, b: y}))
    }
    found: list[dict[str, Any]] = []
    while missing or len(found) < least:
        best, most = None, -1
        for _ in range(60):
            chosen = {name: source.choice(values) for name, values in OPTIONS.items()}
            if missing:
                chosen.update(dict(source.choice(sorted(missing, key=repr))))
            if not allowed(chosen):
                continue
            new = sum(pair in missing for pair in itertools.combinations(chosen.items(), 2))
            if new > most:
                best, most = chosen, new
        assert best is not None
        found.append(best)
        missing -= set(itertools.combinations(best.items(), 2))
    return found


def _forced(chosen: dict[str, Any]) -> list[dict[str, Any]]:
    """What a pair leaves no choice about."""
    forced: list[dict[str, Any]] = []
    if chosen.get("gated_transition"):
        forced.append({"batch_size": 8})
    if chosen.get("attn_pool_chunks") or chosen.get("store_with_lookahead_value"):
        forced.append({"chunk_size": 4})
    return forced


def arguments(chosen: dict[str, Any]) -> dict[str, Any]:
    """Their constructor's arguments."""
    given = {name: value for name, value in chosen.items() if name not in ("network", "momenta", "layer_modulation", "activated", "masked")}
    width = DIM // 2 if chosen["heads"] == 2 else DIM
    given |= MOMENTA[chosen["momenta"]] | {"dim": DIM, "dim_head": width}
    network = NETWORKS[chosen["network"]](width)
    given |= {} if network is None else {"model": network}
    if chosen["layer_modulation"] is not None:
        given |= {"per_parameter_lr_modulation": True, "max_mem_layer_modulation": chosen["layer_modulation"]}
    return given | ({"activation": nn.SiLU()} if chosen["activated"] else {})


def peer(seed: int = 0, **given: Any) -> titans_pytorch.NeuralMemory:
    """Their layer in float64 with weights that are all their own, each in storage of its own."""
    torch.manual_seed(seed)
    layer = titans_pytorch.NeuralMemory(**given).double()
    with torch.no_grad():
        for name, weight in layer.named_parameters():
            fresh = 0.3 * torch.randn(weight.shape, dtype=weight.dtype)
            start = {"norm.weight": 1.0, "adaptive_step.0.bias": -6.0, "decay_factor.0.bias": -3.0}  # as training leaves them: errors do not grow
            weight.data = fresh + next((value for end, value in start.items() if name.endswith(end)), 0.0)
    return layer
