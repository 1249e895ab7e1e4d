"""MIRAS section 5.1: each attentional bias against what the paper's equations say, worked out another way."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retain import bias, presets
from tests.tolerances import assert_near


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_differences(loss: object, y: Tensor, step: float = 1e-6) -> Tensor:
    """The gradient of a loss by central differences, one coordinate at a time."""
    out = torch.zeros_like(y)
    for j in range(y.shape[-1]):
        moved = torch.zeros_like(y)
        moved[..., j] = step
        out[..., j] = (loss(y + moved) - loss(y - moved)) / (2 * step)  # pyright: ignore[reportCallIssue]
    return out


@pytest.mark.equation("miras", 10)
def test_lp_is_the_power_of_the_norm() -> None:
    y, v = normal(5, 4), normal(5, 4, seed=1)
    for p in (1.0, 1.5, 2.0, 3.0, 4.0):
        assert_near(bias.Lp(p=p).loss(y, v), torch.linalg.vector_norm(y - v, ord=p, dim=-1) ** p)
    assert_near(bias.Lp(p=2.0).grad(y, v), bias.L2(scale=1.0).grad(y, v))


@pytest.mark.equation("miras", 11)
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 4.0])
def test_the_step_of_lp_is_that_of_a_matrix_memory(p: float) -> None:
    w, k, v, rate = normal(4, 3), normal(3, seed=1), normal(4, seed=2), 0.1
    r = w @ k - v
    expected = w - p * rate * torch.outer(torch.sign(r) * r.abs() ** (p - 1), k)
    assert_near(w - rate * torch.outer(bias.Lp(p=p).grad(w @ k, v), k), expected)
    assert_near(bias.Lp(p=p).grad(w @ k, v), by_differences(lambda y: bias.Lp(p=p).loss(y, v), w @ k), {torch.float64: 1e-7})


@pytest.mark.equation("miras", 12)
def test_the_absolute_error_writes_signs_whatever_its_size() -> None:
    r = normal(6, 4)
    zero = torch.zeros_like(r)
    assert torch.equal(bias.Lp(p=1.0).grad(r, zero), torch.sign(r))
    assert torch.equal(bias.Lp(p=1.0).grad(1000 * r, zero), bias.Lp(p=1.0).grad(r, zero))


@pytest.mark.equation("miras", "remark 5")
def test_the_surrogates_become_the_exact_step() -> None:
    r, zero = normal(6, 4), torch.zeros(6, 4, dtype=torch.float64)
    for p in (1.0, 1.5, 3.0):
        exact = bias.Lp(p=p).grad(r, zero)
        for kind in ("tanh", "consistent"):
            assert_near(bias.Lp(p=p, surrogate=kind, eps=1e-14, steepness=1e9).grad(r, zero), exact, {torch.float64: 1e-6})  # pyright: ignore[reportArgumentType]
    printed = 3.0 * torch.tanh(10.0 * r) * (r.square() + 1e-6)
    assert_near(bias.Lp(p=3.0, surrogate="tanh", steepness=10.0).grad(r, zero), printed)
    own = bias.Lp(p=1.5, surrogate="consistent", eps=1e-2)
    assert_near(own.grad(r, zero), by_differences(lambda y: own.loss(y, zero), r), {torch.float64: 1e-7})


@pytest.mark.equation("miras", 13)
def test_huber_by_coordinates_is_torchs() -> None:
    y, v = 2 * normal(50, 4), normal(50, 4, seed=1)
    for delta in (0.3, 1.0, 2.5):
        expected = F.huber_loss(y, v, reduction="none", delta=delta).sum(-1)
        assert_near(bias.Huber(kind="coordinate", threshold=delta).loss(y, v), expected)


@pytest.mark.equation("miras", 14)
def test_the_step_of_huber_by_coordinates_is_two_masked_steps() -> None:
    r, k, delta = 2 * normal(4), normal(3, seed=1), 0.8
    near, far = (r.abs() <= delta).double(), (r.abs() > delta).double()
    assert near.any()
    assert far.any()
    one = torch.ones(3, dtype=torch.float64)
    printed = torch.outer(r, k) * torch.outer(near, one) + torch.outer(delta * r.sign(), k) * torch.outer(far, one)
    assert_near(torch.outer(bias.Huber(kind="coordinate", threshold=delta).grad(r, torch.zeros_like(r)), k), printed)
    wide = bias.Huber(kind="coordinate", threshold=math.inf)
    assert_near(wide.grad(r, torch.zeros_like(r)), bias.L2().grad(r, torch.zeros_like(r)))
    narrow = bias.Huber(kind="coordinate", threshold=1e-9)
    assert_near(narrow.grad(r, torch.zeros_like(r)) / 1e-9, bias.Lp(p=1.0).grad(r, torch.zeros_like(r)))


@pytest.mark.equation("miras", 15)
def test_huber_of_the_norm_clips_the_length_of_the_error() -> None:
    r, zero, delta = 2 * normal(40, 3), torch.zeros(40, 3, dtype=torch.float64), 2.0
    size = r.norm(dim=-1, keepdim=True)
    assert (size < delta).any()
    assert (size > delta).any()
    held = bias.Huber(kind="norm", threshold=delta)
    assert_near(held.grad(r, zero), torch.where(size <= delta, r, delta * r / size))
    assert_near(held.grad(r, zero), by_differences(lambda y: held.loss(y, zero), r), {torch.float64: 1e-7})
    assert held.grad(r, zero).norm(dim=-1).max() <= delta + 1e-12


@pytest.mark.equation("miras", 16)
def test_huber_as_a_mixture_takes_the_step_of_one_loss_or_the_other() -> None:
    r, zero, delta = 2 * normal(40, 3), torch.zeros(40, 3, dtype=torch.float64), 2.0
    far = r.norm(dim=-1, keepdim=True) > delta
    assert far.any()
    assert (~far).any()
    half, absolute = bias.L2().grad(r, zero), bias.Lp(p=1.0).grad(r, zero)
    held = bias.Huber(kind="mixture", threshold=delta)
    assert_near(held.grad(r, zero), torch.where(far, delta * absolute, half))
    assert_near(bias.Huber(threshold=math.inf).grad(r, zero), half)
    edge = torch.tensor([delta, 0.0, 0.0], dtype=torch.float64)  # in one dimension the two meet; in more the far one is longer
    assert_near(held.grad(edge * (1 + 1e-12), zero[0]), held.grad(edge, zero[0]))
    corner = torch.full((3,), delta / 3**0.5, dtype=torch.float64)
    assert held.grad(corner * 1.001, zero[0]).norm() > 1.7 * held.grad(corner * 0.999, zero[0]).norm()


@pytest.mark.equation("miras", 14)
@pytest.mark.equation("miras", 15)
@pytest.mark.equation("miras", 16)
@pytest.mark.parametrize("kind", ["coordinate", "norm", "mixture"])
def test_each_token_may_bring_its_threshold(kind: str) -> None:
    y, v, scale = 2 * normal(40, 3), normal(40, 3, seed=1), normal(40, seed=2).abs()
    held = bias.Huber(kind=kind, threshold=0.8, scaled="by token").at(scale[:, None])  # pyright: ignore[reportArgumentType]
    for i in range(40):
        alone = bias.Huber(kind=kind, threshold=0.8 * float(scale[i]))  # pyright: ignore[reportArgumentType]
        assert_near(held.loss(y, v)[i], alone.loss(y[i], v[i]))
        assert_near(held.grad(y, v)[i], alone.grad(y[i], v[i]))


@pytest.mark.equation("miras", 14)
def test_each_channel_of_a_token_may_bring_its_threshold() -> None:
    y, v, scale = 2 * normal(40, 3), normal(40, 3, seed=1), normal(40, 3, seed=2).abs()
    held = bias.Huber(kind="coordinate", threshold=0.8, scaled="by channel").at(scale)
    alone = [[bias.Huber(kind="coordinate", threshold=0.8 * float(scale[i, j])) for j in range(3)] for i in range(40)]
    of_each = torch.stack([torch.stack([alone[i][j].loss(y[i, j : j + 1], v[i, j : j + 1]) for j in range(3)]) for i in range(40)])
    assert_near(held.loss(y, v), of_each.sum(-1))
    assert_near(held.grad(y, v), torch.stack([torch.cat([alone[i][j].grad(y[i, j : j + 1], v[i, j : j + 1]) for j in range(3)]) for i in range(40)]))


@pytest.mark.parametrize(("kind", "scaled"), [("coordinate", "by channel"), ("mixture", "by token")])
def test_a_threshold_of_the_wrong_width_is_asked_for(kind: str, scaled: str) -> None:
    rule = replace(presets.yaad(), bias=bias.Huber(kind=kind, scaled=scaled))  # pyright: ignore[reportArgumentType]
    y, many = torch.zeros(5, 3), "a number for each of 3 channels" if scaled == "by channel" else "one number"
    for width in (0, 2):
        with pytest.raises(ValueError, match=f"Huber needs a `threshold` gate with each token, {many}, got {width or None}"):
            rule.loss(y, torch.zeros(5, 3 + width))


@pytest.mark.equation("miras", 17)
def test_the_worst_shift_is_worse_than_any_other() -> None:
    y, v, radius = normal(4), normal(4, seed=1), 0.7
    held = bias.ShiftRobust(radius=radius)
    shifts = normal(20_000, 4, seed=2)
    shifts = (
        radius * shifts / shifts.norm(dim=-1, keepdim=True) * torch.rand(20_000, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    )
    others = (y - v - shifts).square().sum(-1) / 2
    worst = -radius * (y - v) / (y - v).norm()
    assert others.max() <= held.loss(y, v)
    assert others.max() > 0.8 * held.loss(y, v)
    assert_near((y - v - worst).square().sum() / 2, held.loss(y, v))
    assert_near(held.grad(y, v), by_differences(lambda at: held.loss(at, v), y), {torch.float64: 1e-7})
    assert_near(bias.ShiftRobust(radius=0.0).grad(y, v), bias.L2().grad(y, v))


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: bias.Lp(p=0.5), "at least 1, got 0.5"),
        (lambda: bias.Lp(eps=0.0), "must be positive, got 0.0"),
        (lambda: bias.Huber(threshold=0.0), "must be positive, got 0.0"),
        (lambda: bias.Huber(scaled="by channel"), r"Huber\(kind='mixture'\) compares the norm .* a norm has no channels; scale it 'by token'"),
        (lambda: bias.Huber(kind="norm", scaled="by channel"), r"Huber\(kind='norm'\) compares the norm .* or use kind='coordinate'\."),
        (lambda: bias.ShiftRobust(radius=-1.0), "must be 0 or more, got -1.0"),
    ],
)
def test_a_bias_that_cannot_be_is_refused(make: object, cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        make()  # pyright: ignore[reportCallIssue]
