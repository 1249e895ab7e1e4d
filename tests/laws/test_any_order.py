"""Gradients of gradients: within ``any_order`` every engine has those of the oracle, and those of the formula."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retain import MemoryRule, NeuralMemory, presets
from retain.numerics import any_order, layer_norm
from tests.tolerances import GRADIENTS, assert_near

RULES: dict[str, tuple[MemoryRule, tuple[str, ...]]] = {
    "titans": (presets.titans(update_every=2, expansion=1.5), ("dual", "materialised")),
    "delta_net": (presets.delta_net(), ("delta", "dual")),
}


def mixed(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=like.dtype)


def twice(rule: MemoryRule, engine: str) -> dict[str, Tensor]:
    """The gradient of a mix of the gradients of a mix of the answers, by the slow weights and the tokens."""
    torch.manual_seed(0)
    memory = NeuralMemory(6, heads=2, rule=rule, engine=engine).double()
    with torch.no_grad():
        for weight in memory.parameters():
            weight += 0.2 * torch.randn_like(weight)
    x = torch.randn(2, 40, 6, dtype=torch.float64, requires_grad=True)
    named = {"x": x, **dict(memory.named_parameters())}
    with any_order():
        y, _ = memory(x)
        first = torch.autograd.grad((y * mixed(y, 1)).sum(), list(named.values()), create_graph=True)
        second = torch.autograd.grad(torch.stack([(g * mixed(g, 2)).sum() for g in first]).sum(), list(named.values()), allow_unused=True)
    return {name: torch.zeros_like(w) if g is None else g for (name, w), g in zip(named.items(), second, strict=True)}


@pytest.mark.parametrize("name", RULES)
def test_gradients_of_gradients_are_the_oracles(name: str) -> None:
    rule, engines = RULES[name]
    expected = twice(rule, "recurrent")
    for engine in engines:
        for path, found in twice(rule, engine).items():
            assert_near(found, expected[path], GRADIENTS, f"{engine}: {path}")


def third(function: Callable[[Tensor], Tensor]) -> Tensor:
    x = mixed(torch.empty(3, 5, dtype=torch.float64), 0).requires_grad_()
    y = function(x)
    for seed in (1, 2):
        (y,) = torch.autograd.grad((y * mixed(x, seed)).sum(), x, create_graph=True)
    return torch.autograd.grad((y * mixed(x, 3)).sum(), x)[0]


def test_a_normalised_layer_has_the_third_derivative_of_its_formula() -> None:
    def formula(x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        return (x - mean) / (((x - mean) ** 2).mean(-1, keepdim=True) + 1e-5).sqrt()

    with any_order():
        assert_near(third(lambda x: layer_norm(x, 1e-5)), third(formula))
        assert_near(layer_norm(torch.eye(3), 1e-5), F.layer_norm(torch.eye(3), (3,), eps=1e-5))


def test_outside_it_recomputed_tiles_refuse() -> None:
    memory = NeuralMemory(6, rule=presets.titans(update_every=1, expansion=1.5), engine="dual")
    x = torch.randn(1, 60, 6, requires_grad=True)
    y, _ = memory(x)
    with pytest.raises(RuntimeError, match="any_order"):
        torch.autograd.grad(y.sum(), x, create_graph=True)
