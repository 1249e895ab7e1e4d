"""A memory whose activations are computed again in the backward pass takes its inner gradients once, and keeps none of what they were made of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from retain import NeuralMemory, presets
from retain.numerics import any_order

EVERY = 4
MEMORIES: dict[str, dict[str, Any]] = {
    "a step for each token": {"rule": presets.titans(update_every=EVERY)},
    "a step for each segment": {"rule": presets.titans(update_every=EVERY, step_every=EVERY)},
    "vectors among its weights": {"rule": presets.ttt_mlp(update_every=EVERY)},
    "updates written out": {"rule": presets.atlas(update_every=EVERY)},
}


def memory(name: str) -> NeuralMemory:
    torch.manual_seed(0)
    return NeuralMemory(8, heads=2, **MEMORIES[name]).double()


def read(layer: NeuralMemory, again: bool, time: int = 8 * EVERY) -> Tensor:
    """What it says of random tokens, after a part of which attention was cut off."""

    def whole(x: Tensor) -> Tensor:
        first, state = layer(x)
        return torch.cat([first, layer(x[:, : 3 * EVERY + 1], state)[0]], dim=1)

    x = torch.randn(2, time, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = checkpoint(whole, x, use_reentrant=False) if again else whole(x)
    assert isinstance(y, Tensor)
    return y


def gradients(layer: NeuralMemory, y: Tensor) -> dict[str, Tensor]:
    weights = dict(layer.named_parameters())
    return dict(zip(weights, torch.autograd.grad(y.square().sum(), list(weights.values())), strict=True))


@pytest.mark.parametrize("name", MEMORIES)
def test_the_forward_pass_is_done_once_and_gradients_are_the_same(name: str) -> None:
    layer = memory(name)
    found = []
    for again in (False, True):
        with FlopCounterMode(display=False) as counter:
            y = read(layer, again)
        found.append((counter.get_total_flops(), y, gradients(layer, y)))
    (flops, plain, expected), (again_flops, y, slopes) = found
    assert again_flops == flops
    assert torch.equal(y, plain)
    for weight, slope in expected.items():
        torch.testing.assert_close(slopes[weight], slope, rtol=1e-11, atol=1e-13, msg=weight)


def test_more_tiles_than_are_kept_are_read_once_too() -> None:
    layer, found = memory("a step for each token"), []
    for again in (False, True):
        with FlopCounterMode(display=False) as counter:
            y = read(layer, again, time=34 * EVERY)
        found.append((counter.get_total_flops(), gradients(layer, y)))
    assert found[0][0] == found[1][0]
    for weight, slope in found[0][1].items():
        torch.testing.assert_close(found[1][1][weight], slope, rtol=1e-11, atol=1e-13, msg=weight)


def test_hooks_that_are_no_checkpoint_change_nothing_even_in_the_backward_pass() -> None:
    layer = memory("a step for each token")
    expected = gradients(layer, read(layer, again=False))
    with save_on_cpu():
        found = gradients(layer, read(layer, again=False))
    for weight, slope in expected.items():
        torch.testing.assert_close(found[weight], slope, rtol=1e-11, atol=1e-13, msg=weight)


def test_gradients_of_gradients_of_a_checkpoint_are_there_where_they_are_asked_for() -> None:
    layer, found = memory("a step for each token"), []
    weights = list(layer.parameters())
    for again in (False, True):
        with any_order():
            slopes = torch.autograd.grad(read(layer, again).square().sum(), weights, create_graph=True)
            found.append(torch.autograd.grad(sum((slope.square().sum() for slope in slopes), torch.zeros(())), weights))
    for other, one in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
