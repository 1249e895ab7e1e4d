"""Whether both libraries compute the same thing. Where they do not, no speed is worth a line."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .ours import HALF_OPEN, STEADY, Ours, Prenormed, weights
from .peer import build_peer, copy_into_peer, gradients_as_ours
from .settings import Setting

OUTPUT_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3
EXACT_TOLERANCE = 1e-9  # in float64


@dataclass(frozen=True)
class Pair:
    """Both layers of a setting with the same slow weights, and tokens for them."""

    setting: Setting
    ours: Prenormed
    peer: nn.Module
    x: Tensor


def pair(setting: Setting, ours: Ours = Ours(), gate: float = STEADY) -> Pair:  # noqa: B008  a frozen value
    """Both layers, built of the same numbers."""
    drawn, x = weights(setting, gate)
    our_layer, peer = ours.build(setting), build_peer(setting)
    our_layer.load_state_dict(drawn)
    copy_into_peer(drawn, peer)
    return Pair(setting, our_layer, peer, x)


def relative_error(got: Tensor, expected: Tensor) -> float:
    """The largest difference, over the largest expected value.

    Examples:
        >>> round(relative_error(torch.tensor([1.0, 9.0]), torch.tensor([0.0, 10.0])), 3)
        0.1
    """
    if got.shape != expected.shape or not bool(torch.isfinite(got).all()):
        return float("inf")
    return float((got - expected).abs().max() / expected.abs().max())


def output_error(both: Pair) -> float:
    """The relative error between the outputs of a whole forward call."""
    with torch.no_grad():
        return relative_error(both.ours(both.x)[0], both.peer(both.x)[0])


def short(setting: Setting) -> int:
    """Tokens enough to cross a boundary, or a few steps where there is none: over these, gradients and float64 are compared."""
    return min(setting.time, 2 * (setting.update_every or setting.step_every))


def exact_output_error(setting: Setting, ours: Ours = Ours()) -> float:  # noqa: B008
    """The same in float64 over the first tokens, with gates half open, as the peer starts."""
    both = pair(setting.at(short(setting)), ours, HALF_OPEN)
    return output_error(Pair(both.setting, both.ours.double(), both.peer.double(), both.x.double()))


def gradient_errors(both: Pair) -> dict[str, float]:
    """The relative error of each slow weight's gradient, by our name, over the first tokens."""
    x = both.x[:, : short(both.setting)]
    for layer in (both.ours, both.peer):
        layer.zero_grad()
        layer(x)[0].square().mean().backward()
    theirs = gradients_as_ours(both.peer)
    ours = {name: parameter.grad for name, parameter in both.ours.named_parameters()}
    for layer in (both.ours, both.peer):
        layer.zero_grad()
    return {name: float("inf") if grad is None else relative_error(grad, theirs[name]) for name, grad in ours.items()}
