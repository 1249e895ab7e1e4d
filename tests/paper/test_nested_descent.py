"""Nested Learning, sections 2, 3, 4.5 and appendix C: gradient descent as a memory, and the delta rule in its place."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from retain.memory.bias import L2
from retain.memory.learner import Implicit
from retain.optim import DeltaGradientDescent, GradientDescent
from tests.paper.argmin import FOUND, argmin
from tests.tolerances import assert_near

OUT, IN, ETA = 3, 5, 0.3


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def descended(weight: Tensor, gradient: Tensor, lr: float = ETA) -> Tensor:
    return GradientDescent.advance(weight, gradient, {}, GradientDescent.options(lr=lr))[0]


def delta(weight: Tensor, gradient: Tensor, inputs: Tensor, lr: float = ETA) -> Tensor:
    """The library's step for inputs [many, IN]."""
    return DeltaGradientDescent.advance(weight, gradient, {"inputs": inputs}, DeltaGradientDescent.options(lr=lr))[0]


def squared(w: Tensor, of: Tensor) -> Tensor:
    return (w - of).square().sum()


def surprise(weight: Tensor, x: Tensor, target: Tensor) -> Tensor:
    """The gradient of sum cosh(y - target) at the output y = W x."""
    return torch.sinh(weight @ x - target)


class Tanh(nn.Module):
    """Three layers of tanh, the last one too, and what goes into each and comes out."""

    def __init__(self) -> None:
        super().__init__()
        widths = (5, 6, 4, 3)
        self.layers = nn.ModuleList(nn.Linear(a, b, dtype=torch.float64) for a, b in pairwise(widths))
        for i, parameter in enumerate(self.parameters()):
            parameter.data.copy_(numbers(*parameter.shape, seed=i))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x

    def by_hand(self, x: Tensor, target: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each layer's surprise and input, for half the squared error: delta_l = J^T W_(l+1)^T delta_(l+1)."""
        said, slopes = [x], []
        for layer in self.layers:
            said.append(torch.tanh(layer.weight.detach() @ said[-1] + layer.bias.detach()))
            slopes.append(1 - said[-1].square())
        back = said[-1] - target
        found = []
        for i in reversed(range(3)):
            back = slopes[i] * back
            found.append((back, said[i]))
            back = self.layers[i].weight.detach().T @ back
        return found[::-1]


@pytest.mark.equation("nested_learning", 1)
@pytest.mark.equation("nested_learning", 2)
@pytest.mark.equation("nested_learning", 32)
def test_descent_minimises_the_linearised_loss_near_where_it_was() -> None:
    weight, gradient = numbers(OUT, IN), numbers(OUT, IN, seed=1)
    p, same = nn.Parameter(weight.clone()), nn.Parameter(weight.clone())
    p.grad = same.grad = gradient
    GradientDescent([p], lr=ETA).step()
    torch.optim.SGD([same], lr=ETA).step()
    assert_near(p.data, weight - ETA * gradient)
    assert_near(p.data, same.data)
    assert_near(p.data, argmin(lambda w: (gradient * w).sum() + squared(w, weight) / (2 * ETA), weight), FOUND)


@pytest.mark.equation("nested_learning", 3)
def test_descent_follows_the_leader_of_all_gradients() -> None:
    """At a constant rate; with rates that differ the two part."""

    def gap(rates: list[float]) -> float:
        first, gradients = numbers(OUT, IN), []
        weight = first
        for rate in rates:
            gradients.append(torch.sinh(weight))
            weight = descended(weight, gradients[-1], rate)
        leader = argmin(lambda w: (sum(gradients, torch.zeros(())) * w).sum() + squared(w, first) / (2 * rates[-1]), first)
        return float((weight - leader).abs().max())

    assert gap([0.1] * 6) < 1e-6
    assert gap([0.3, 0.2, 0.1, 0.1, 0.1, 0.1]) > 1e-2


@pytest.mark.equation("nested_learning", 8)
@pytest.mark.equation("nested_learning", 9)
@pytest.mark.equation("nested_learning", 54)
@pytest.mark.equation("nested_learning", 55)
@pytest.mark.equation("nested_learning", 112)
def test_descent_writes_the_surprise_at_the_output_under_the_input() -> None:
    layer = nn.Linear(IN, OUT, bias=False, dtype=torch.float64)
    layer.weight.data.copy_(numbers(OUT, IN))
    weight, x, target = layer.weight.detach().clone(), numbers(IN, seed=1), numbers(OUT, seed=2)
    torch.cosh(layer(x) - target).sum().backward()
    GradientDescent(layer.parameters(), lr=ETA).step()
    u = surprise(weight, x, target)
    assert_near(layer.weight.data, weight - ETA * torch.outer(u, x))
    assert_near(layer.weight.data, argmin(lambda w: (w @ x) @ u + squared(w, weight) / (2 * ETA), weight), FOUND)


@pytest.mark.equation("nested_learning", 29)
@pytest.mark.equation("nested_learning", 30)
@pytest.mark.equation("nested_learning", 31)
def test_backpropagation_writes_each_layers_surprise_under_its_input() -> None:
    net, x, target = Tanh(), numbers(5, seed=9), numbers(3, seed=10)
    pairs, before = net.by_hand(x, target), [layer.weight.detach().clone() for layer in net.layers]
    (squared(net(x), target) / 2).backward()
    GradientDescent(net.parameters(), lr=ETA).step()
    for layer, weight, (surprised, said) in zip(net.layers, before, pairs, strict=True):
        assert_near(layer.weight.data, weight - ETA * torch.outer(surprised, said))
        found = argmin(lambda w, s=surprised, i=said, at=weight: (w @ i) @ s + squared(w, at) / (2 * ETA), weight)
        assert_near(layer.weight.data, found, FOUND)


@pytest.mark.equation("nested_learning", 29)
@pytest.mark.equation("nested_learning", 56)
@pytest.mark.equation("nested_learning", 57)
def test_every_layer_learns_by_the_delta_rule_from_its_own_input() -> None:
    net, x, target = Tanh(), numbers(5, seed=9), numbers(3, seed=10)
    pairs, before = net.by_hand(x, target), [(layer.weight.detach().clone(), layer.bias.detach().clone()) for layer in net.layers]
    optimizer = DeltaGradientDescent(net, lr=ETA)
    optimizer.zero_grad()
    (squared(net(x), target) / 2).backward()
    optimizer.step()
    for layer, (weight, bias), (surprised, said) in zip(net.layers, before, pairs, strict=True):
        rate = ETA / (1 + ETA * said @ said)
        assert_near(layer.weight.data, weight - rate * torch.outer(weight @ said + surprised, said))
        assert_near(layer.bias.data, bias - ETA * surprised)


@pytest.mark.equation("nested_learning", 56)
@pytest.mark.equation("nested_learning", 57)
@pytest.mark.equation("nested_learning", 113)
def test_the_delta_step_minimises_the_squared_error_to_the_surprise() -> None:
    """For inputs of any length; the printed rate eta / (1 + eta) is right at length one alone."""
    weight = numbers(OUT, IN)
    for length in (1.0, 2.3):
        x, g = length * nn.functional.normalize(numbers(IN, seed=1), dim=0), numbers(OUT, seed=2)
        found = delta(weight, torch.outer(g, x), x.unsqueeze(0))
        assert_near(found, argmin(lambda w, x=x, g=g: squared(w @ x, -g) / 2 + squared(w, weight) / (2 * ETA), weight), FOUND)
        rate = ETA / (1 + ETA * length**2)
        assert_near(found, weight @ (torch.eye(IN) - rate * torch.outer(x, x)) - rate * torch.outer(g, x))
        printed = weight - ETA / (1 + ETA) * torch.outer(weight @ x + g, x)
        assert bool((found - printed).abs().max() < 1e-12) == (length == 1.0)


@pytest.mark.equation("nested_learning", 57)
@pytest.mark.parametrize("many", [2, 5, 8])
def test_a_batch_is_solved_exactly(many: int) -> None:
    """W (I + eta X X^T) = W_t + eta U X^T, on whichever side is smaller; directions that no input has stay as they are."""
    weight, x, g = numbers(OUT, IN), numbers(many, IN, seed=1), numbers(many, OUT, seed=2)
    found = delta(weight, g.T @ x, x)
    assert_near(found, argmin(lambda w: squared(w @ x.T, -g.T) / 2 + squared(w, weight) / (2 * ETA), weight), FOUND)
    assert_near(found @ (torch.eye(IN) + ETA * x.T @ x), weight - ETA * g.T @ x)
    if many < IN:
        aside = numbers(IN, seed=3)
        aside = aside - x.T @ torch.linalg.solve(x @ x.T, x @ aside)
        assert_near(found @ aside, weight @ aside)


@pytest.mark.equation("nested_learning", 57)
def test_the_delta_rule_comes_to_rest_half_way() -> None:
    weight, x, y = numbers(OUT, IN), numbers(IN, seed=1), numbers(OUT, seed=2)
    for _ in range(300):
        weight = delta(weight, torch.outer(weight @ x - y, x), x.unsqueeze(0))
    assert_near(weight @ x, y / 2)


@pytest.mark.equation("nested_learning", 58)
def test_what_is_written_is_what_the_weights_themselves_say() -> None:
    """v_t = f_(W_t)(x_t): with the values of the first weights the second step is another."""
    layer = nn.Linear(IN, OUT, bias=False, dtype=torch.float64)
    layer.weight.data.copy_(numbers(OUT, IN))
    optimizer, first = GradientDescent(layer.parameters(), lr=ETA), numbers(OUT, IN)
    by_hand, frozen, target = first, first, numbers(OUT, seed=2)
    for x in numbers(2, IN, seed=1):
        optimizer.zero_grad()
        torch.cosh(layer(x) - target).sum().backward()
        optimizer.step()
        by_hand = by_hand + ETA * torch.outer(-surprise(by_hand, x, target), x)
        frozen = frozen + ETA * torch.outer(-surprise(first, x, target), x)
    assert_near(layer.weight.data, by_hand)
    assert float((by_hand - frozen).abs().max()) > 1e-2


@pytest.mark.equation("nested_learning", 59)
@pytest.mark.equation("nested_learning", 60)
def test_an_objective_and_a_retention_make_a_step() -> None:
    """The inner product makes descent, the squared error the delta rule; what is held to several weights is held to their mean."""
    past, x, target, share = numbers(3, OUT, IN), numbers(IN, seed=1), numbers(OUT, seed=2), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    u = -surprise(past[-1], x, target)
    mean = torch.einsum("c,coi->oi", share, past)

    def retention(w: Tensor) -> Tensor:
        return sum((s * squared(w, p) for s, p in zip(share, past, strict=True)), torch.zeros(())) / (2 * ETA)

    gradient = -torch.outer(u, x)
    assert_near(descended(mean, gradient), argmin(lambda w: -(w @ x) @ u + retention(w), mean), FOUND)
    assert_near(delta(mean, gradient, x.unsqueeze(0)), argmin(lambda w: squared(w @ x, u) / 2 + retention(w), mean), FOUND)


@pytest.mark.equation("nested_learning", 98)
@pytest.mark.equation("nested_learning", 99)
def test_an_implicit_step_minimises_the_whole_loss_near_where_it_was() -> None:
    """A linear loss makes it descent, a squared error the delta rule at the rate of an implicit step."""
    weight, k, v = numbers(OUT, IN), numbers(IN, seed=1), numbers(OUT, seed=2)
    linear = argmin(lambda w: -(w @ k) @ v + squared(w, weight) / (2 * ETA), weight)
    assert_near(descended(weight, -torch.outer(v, k)), linear, FOUND)
    whole = argmin(lambda w: squared(w @ k, v) / 2 + squared(w, weight) / (2 * ETA), weight)
    assert_near(delta(weight, -torch.outer(v, k), k.unsqueeze(0)), whole, FOUND)
    rate = Implicit().effective(torch.full((1,), ETA, dtype=torch.float64), k.unsqueeze(0), L2())
    assert_near(weight - rate * torch.outer(weight @ k - v, k), whole, FOUND)


@pytest.mark.equation("nested_learning", 114)
@pytest.mark.equation("nested_learning", 115)
@pytest.mark.equation("nested_learning", 116)
@pytest.mark.equation("nested_learning", 117)
@pytest.mark.equation("nested_learning", 118)
@pytest.mark.equation("nested_learning", 119)
@pytest.mark.equation("nested_learning", 120)
@pytest.mark.equation("nested_learning", 121)
def test_the_derivation_of_the_delta_step_line_by_line() -> None:
    """With u = -grad and 1 / eta where the appendix prints grad and eta, and the squared length of the input."""
    weight, x, g = numbers(OUT, IN), 1.7 * numbers(IN, seed=1), numbers(OUT, seed=2)
    found, u, inverse_rate, square = delta(weight, torch.outer(g, x), x.unsqueeze(0)), -g, 1 / ETA, x @ x
    xx, identity = torch.outer(x, x), torch.eye(IN, dtype=torch.float64)
    zero = torch.zeros(OUT, IN, dtype=torch.float64)
    assert_near(2 * torch.outer(found @ x - u, x) + 2 * inverse_rate * (found - weight), zero)
    assert_near(found @ (xx + inverse_rate * identity), torch.outer(u, x) + inverse_rate * weight)
    inverse = (identity - xx / (square + inverse_rate)) / inverse_rate
    assert_near(found, (torch.outer(u, x) + inverse_rate * weight) @ torch.linalg.inv(xx + inverse_rate * identity))
    assert_near(found, (torch.outer(u, x) + inverse_rate * weight) @ inverse)
    kept = weight @ (identity - xx / (square + inverse_rate))
    expanded = torch.outer(u, x) / inverse_rate - torch.outer(u, x) @ xx / (square * inverse_rate + inverse_rate**2)
    assert_near(found, kept + expanded)
    assert_near(found, kept - (square / (square * inverse_rate + inverse_rate**2) - 1 / inverse_rate) * torch.outer(u, x))
    alpha = ETA / (1 + ETA * square)
    assert_near(found, weight @ (identity - alpha * xx) - alpha * torch.outer(g, x))
