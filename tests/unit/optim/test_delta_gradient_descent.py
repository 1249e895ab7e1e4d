"""Delta gradient descent of real layers: which inputs count, in any layout, and when they are forgotten."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from retain.optim import DeltaGradientDescent
from tests.tolerances import ROWS, assert_near
from tests.unit.optim.optimizers import numbers

ETA = 0.3


def stepped(layer: nn.Module, x: Tensor, reduction: str = "mean") -> tuple[Tensor, Tensor, Tensor]:
    """The weight before, its gradient, and the weight after, for a mean or sum of cosh of what the layer says."""
    for i, parameter in enumerate(layer.parameters()):
        parameter.data.copy_(numbers(*parameter.shape, seed=i) / 2)
    optimizer = DeltaGradientDescent(layer, lr=ETA, reduction="mean" if reduction == "mean" else "sum")
    optimizer.zero_grad()
    (torch.cosh(layer(x)).mean() if reduction == "mean" else torch.cosh(layer(x)).sum()).backward()
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    before, gradient = weight.detach().clone(), weight.grad
    assert gradient is not None
    optimizer.step()
    return before, gradient, weight.data


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 6, 5)], ids=str)
def test_tokens_of_any_layout_are_inputs(shape: tuple[int, ...], reduction: str) -> None:
    layer, x = nn.Linear(5, 3, dtype=torch.float64), numbers(*shape)
    before, gradient, after = stepped(layer, x, reduction)
    rows = x.reshape(-1, 5)
    square = rows.T @ rows / (len(rows) if reduction == "mean" else 1)
    assert_near(after @ (torch.eye(5, dtype=torch.float64) + ETA * square), before - ETA * gradient)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 6, 3, dtype=torch.float64),
        nn.Conv1d(4, 6, 2, stride=2, padding=1, groups=2, dtype=torch.float64),
        nn.Conv1d(4, 4, 3, padding="same", dilation=2, padding_mode="circular", groups=4, bias=False, dtype=torch.float64),
        nn.Conv2d(4, 6, (2, 3), dtype=torch.float64),
        nn.Conv2d(4, 6, 3, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2, dtype=torch.float64),
    ],
    ids=str,
)
def test_a_convolution_is_a_linear_map_of_its_patches(layer: nn.Conv1d | nn.Conv2d) -> None:
    """A patch is what the convolution with one weight at a time picks out, so the map is found by asking the layer, not by cutting."""
    x = numbers(2, 4, *(9,) * len(layer.kernel_size))
    before, gradient, after = stepped(layer, x)
    ask, groups = copy.deepcopy(layer), layer.groups
    out, columns = before.shape[0] // groups, before[0].numel()
    picked = []
    for column in range(columns):
        with torch.no_grad():
            ask.weight.zero_().view(groups, out, columns)[:, 0, column] = 1.0
            said = nn.functional.linear(ask(x).movedim(1, -1), torch.eye(groups * out, dtype=torch.float64))
            said = said if ask.bias is None else said - ask.bias
        picked.append(said[..., ::out].reshape(-1, groups))
    patches = torch.stack(picked, -1)
    for g in range(groups):
        rows, own = patches[:, g], slice(g * out, (g + 1) * out)
        square = torch.eye(columns, dtype=torch.float64) + ETA * rows.T @ rows / len(rows)
        assert_near(after[own].flatten(1) @ square, (before - ETA * gradient)[own].flatten(1))


def made(seed: int = 0) -> tuple[nn.Module, DeltaGradientDescent]:
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 2)).double()
    for i, parameter in enumerate(net.parameters()):
        parameter.data.copy_(numbers(*parameter.shape, seed=seed + i))
    return net, DeltaGradientDescent(net, lr=ETA)


def weights_of(net: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def usual(net: nn.Module, optimizer: DeltaGradientDescent, x: Tensor) -> Tensor:
    optimizer.zero_grad()
    net(x).square().mean().backward()
    optimizer.step()
    return weights_of(net)


def test_only_what_a_gradient_came_back_through_counts() -> None:
    x, other = numbers(6, 5), numbers(3, 5, seed=1)
    expected = usual(*made(), x)
    net, optimizer = made()
    net(other)  # no gradient comes back
    with torch.no_grad():
        net(other)
    loss = net(x).square().mean()
    optimizer.zero_grad()  # after the forward pass
    loss.backward()
    optimizer.step()
    assert_near(weights_of(net), expected, ROWS)
    net, optimizer = made()
    net(other).square().mean().backward()
    assert_near(usual(net, optimizer, x), expected, ROWS)  # an abandoned gradient is forgotten with its inputs
    net, optimizer = made()
    checkpointed = checkpoint(net, x, use_reentrant=False)
    assert isinstance(checkpointed, Tensor)
    checkpointed.square().mean().backward()
    optimizer.step()
    assert_near(weights_of(net), expected, ROWS)
    net, optimizer = made()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = net(input=x).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert_near(weights_of(net), expected, ROWS)


def test_gradients_that_add_up_add_up_their_inputs() -> None:
    """Two backward passes of means: gradient and inputs are both sums of two means."""
    layer, parts = nn.Linear(5, 3, bias=False, dtype=torch.float64), (numbers(6, 5), numbers(2, 5, seed=1))
    before, optimizer = layer.weight.detach().clone(), DeltaGradientDescent(layer, lr=ETA)
    for part in parts:
        layer(part).square().mean().backward()
    assert layer.weight.grad is not None
    gradient, square = layer.weight.grad.clone(), sum((part.T @ part / len(part) for part in parts), torch.eye(5, dtype=torch.float64) / ETA)
    optimizer.step()
    assert_near(layer.weight.data @ square * ETA, before - ETA * gradient)
    after = layer.weight.detach().clone()
    optimizer.step()  # the gradient is still there, its inputs are not
    assert_near(layer.weight.data, after - ETA * gradient)


def test_all_else_moves_by_plain_descent_and_what_is_frozen_stays() -> None:
    net, optimizer = made()
    frozen = net[0].weight.requires_grad_(False) if isinstance(net, nn.Sequential) else None
    assert frozen is not None
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    for _ in range(2):
        now = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
        usual(net, optimizer, numbers(6, 5))
        for name, parameter in net.named_parameters():
            if parameter.grad is not None and parameter.ndim == 1:
                assert_near(parameter.data, now[name] - ETA * parameter.grad)
    assert_near(frozen.data, before["0.weight"])
    assert not any(optimizer._inputs.values())


def test_a_copy_is_refused_and_leaves_the_first_alone() -> None:
    net, optimizer = made()
    other, copied = copy.deepcopy((net, optimizer))
    with pytest.raises(RuntimeError, match="make one of the copied module"):
        copied.step()
    other(numbers(3, 5)).square().mean().backward()
    assert not any(optimizer._inputs.values())
    restored = DeltaGradientDescent(other, lr=1.0)
    restored.load_state_dict(optimizer.state_dict())
    assert_near(usual(other, restored, numbers(6, 5)), usual(net, optimizer, numbers(6, 5)), ROWS)


def test_hooks_go_when_the_optimizer_goes() -> None:
    net, optimizer = made()
    assert isinstance(net, nn.Sequential)
    assert len(net[0]._forward_hooks) == 1
    del optimizer
    gc.collect()
    assert len(net[0]._forward_hooks) == 0


def test_many_weights_at_once_are_each_its_own() -> None:
    weight, gradient, x = numbers(4, 3, 5), numbers(4, 3, 5, seed=1), numbers(4, 7, 5, seed=2)
    options = DeltaGradientDescent.options(lr=ETA)
    together, state = DeltaGradientDescent.advance(weight, gradient, {"inputs": x}, options, lead=1)
    assert state == {}
    for i in range(4):
        assert_near(together[i], DeltaGradientDescent.advance(weight[i], gradient[i], {"inputs": x[i]}, options)[0])
    inputs = tuple(t.requires_grad_() for t in (weight, gradient, x))
    assert torch.autograd.gradcheck(lambda w, g, s: DeltaGradientDescent.advance(w, g, {"inputs": s}, options, 1)[0], inputs)
