"""Layers of every kind, ready to be tried, and streams for them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from retain import RMS, Anchor, Gates, MemoryRule, NeuralMemory, Output, Projections, learner, presets, retention, structure
from retain.layers import LowRankGates, Polynomial

DIM = 6
RULES: dict[str, MemoryRule] = {
    "titans": presets.titans(expansion=1.5, update_every=4),
    "long_steps": presets.titans(expansion=1.5, update_every=6, step_every=3),
    "gated_delta_net": presets.gated_delta_net(),
    "oja": replace(presets.oja(), update_every=6, step_every=3),
    "channels": replace(presets.delta_net(), retention=retention.ChannelDecay()),
    "scaled": replace(
        presets.titans(expansion=1.5, update_every=6, step_every=3), learner=learner.PerTensor(most=2.0), anchor=Anchor(transition="gated")
    ),
    "orthogonal": replace(presets.titans(expansion=1.5, update_every=6, step_every=3), learner=learner.Orthogonal(inner=learner.Clamp(norm=0.2))),
    "read_before": replace(presets.titans(expansion=1.5, update_every=4, step_every=2), reads="before"),
}
LAYERS: dict[str, dict[str, object]] = {
    **{name: {"rule": rule} for name, rule in RULES.items()},
    "pooled": {"rule": RULES["long_steps"], "gates": Gates(pool="mean", lr=0.2)},
    "two_pairs": {"rule": RULES["titans"], "projections": Projections(pairs=2, conv=2)},
    "bare": {"rule": RULES["titans"], "projections": Projections(conv=1, activation=None, norm="rms"), "output": Output(norm=None, gate=None)},
    "attending": {"rule": RULES["long_steps"], "gates": Gates(pool="attention", lr=0.2), "projections": Projections(prenorm=RMS())},
    "next": {"rule": RULES["long_steps"], "projections": Projections(pairs=2, values="next", norm=RMS()), "gates": Gates(lr=0.2)},
    "together": {
        "rule": replace(RULES["long_steps"], structure=structure.AttentionMLP(scale=2.0)),
        "projections": Projections(pairs=2, values="next", norm=RMS()),
        "gates": Gates(lr=0.2),
    },
    "features": {
        "rule": replace(RULES["long_steps"], structure=structure.MLP(expansion=0.5)),
        "projections": Projections(values="next", features=Polynomial(degree=2)),
        "gates": Gates(lr=0.2),
    },
    "narrow": {
        "rule": presets.yaad(update_every=4, gates="channel"),
        "projections": Projections(pairs=2),
        "gates": LowRankGates(rank=2, lr=0.2),
    },
    "narrow_pooled": {
        "rule": replace(presets.memora(update_every=6, gates="channel"), step_every=3),
        "gates": LowRankGates(rank=2, lr=0.2, pool="mean"),
    },
    "recall": {"rule": RULES["titans"], "projections": Projections(start="recall"), "output": Output(gate="head")},
}


def layer(name: str = "titans", heads: int = 2, **settings: object) -> NeuralMemory:
    """A layer in float64 whose convolutions and gates do not stand where they start."""
    torch.manual_seed(0)
    memory = NeuralMemory(DIM, heads=heads, **{**LAYERS[name], **settings}).double()  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for path, weight in memory.named_parameters():
            if path.startswith(("projections.conv", "projections.norm", "gates", "initial")):
                weight += 0.2 * torch.randn_like(weight)
    return memory


def stream(batch: int = 2, time: int = 11, seed: int = 0) -> Tensor:
    return torch.randn(batch, time, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
