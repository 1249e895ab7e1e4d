"""The peer: titans-pytorch's memory in a setting of the benchmark, and the way from its parameters to ours."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn

from .settings import Setting

PEER = "titans-pytorch"
PEER_VERSION = "0.5.5"


class PeerMissing(Exception):
    """The library to compare with is not installed, or is another version than the one whose parameters are known here."""


def peer_package() -> Any:
    """The peer's package.

    Raises:
        PeerMissing: It is not installed, or has another version.
    """
    try:
        found = version(PEER)
        package = import_module("titans_pytorch")
    except (PackageNotFoundError, ModuleNotFoundError) as missing:
        raise PeerMissing(
            f"the benchmark compares with {PEER} {PEER_VERSION}, which is not installed ({missing}). Cure: pip install 'retain[bench]'"
        ) from None
    if found != PEER_VERSION:
        raise PeerMissing(
            f"the benchmark compares with {PEER} {PEER_VERSION}, whose parameters it knows how to copy; version {found} is installed. "
            f"Cure: pip install '{PEER}=={PEER_VERSION}'"
        )
    return package


def build_peer(setting: Setting) -> nn.Module:
    """The peer's layer.

    With several heads its initial memories are one tensor seen many times, which no optimizer can step. They are given storage of their own here, which
    changes nothing that is measured.
    """
    layer = peer_package().NeuralMemory(
        dim=setting.dim,
        heads=setting.heads,
        dim_head=setting.head_dim,
        chunk_size=setting.step_every,
        batch_size=setting.update_every,
        default_model_kwargs={"depth": 2, "expansion_factor": 4.0},
    )
    for parameter in layer.memory_model_parameters:
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return layer


# Ours from theirs, where one is a copy of the other.
_SAME = {
    "memory.projections.to_q.weight": "to_queries.weight",
    "memory.projections.to_k.weight": "to_keys.weight",
    "memory.projections.to_v.weight": "to_values.weight",
    "memory.initial.gain": "memory_model_parameters.0",
    "memory.initial.w0": "memory_model_parameters.1",
    "memory.initial.w1": "memory_model_parameters.2",
}
_OF_HEADS = {
    "memory.output.to_gate.weight": "retrieve_gate.0.weight",
    "memory.output.to_out.weight": "combine_heads.weight",
}
# Our gates are one matrix, theirs are three.
_GATES = ("to_adaptive_step.0", "to_momentum.0", "to_decay_factor.0")
_NORMS = ("retrieve_norm.weight", "store_norm.weight")


def copy_into_peer(ours: Mapping[str, Tensor], peer: nn.Module) -> None:
    """Give the peer our slow weights.

    Args:
        ours: Our layer's parameters by name.
        peer: The layer that ``build_peer`` made of the same setting.
    """
    theirs = dict(peer.named_parameters())
    with torch.no_grad():
        for our_name, their_name in (_SAME | _OF_HEADS).items():
            if our_name in ours:
                theirs[their_name].copy_(ours[our_name])
        for kind in ("weight", "bias"):
            for name, part in zip(_GATES, ours[f"memory.gates.{kind}"].chunk(len(_GATES)), strict=True):
                theirs[f"{name}.{kind}"].copy_(part)
        for name in _NORMS:
            theirs[name].copy_(ours["norm.weight"])


def gradients_as_ours(peer: nn.Module) -> dict[str, Tensor]:
    """The peer's gradients under our names: its two norms are one weight here, so their gradients add up."""
    theirs = {name: parameter.grad for name, parameter in peer.named_parameters() if parameter.grad is not None}
    gradients = {our_name: theirs[their_name] for our_name, their_name in (_SAME | _OF_HEADS).items() if their_name in theirs}
    for kind in ("weight", "bias"):
        gradients[f"memory.gates.{kind}"] = torch.cat([theirs[f"{name}.{kind}"] for name in _GATES])
    gradients["norm.weight"] = theirs[_NORMS[0]] + theirs[_NORMS[1]]
    return gradients
