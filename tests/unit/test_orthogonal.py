"""Orthogonal steps: what they are, and that the learning rate means something."""

import torch

from retain.core.tokens import Step
from retain.memory.learner import Gradient, Orthogonal
from retain.numerics import newton_schulz
from tests.tolerances import assert_near


def _update(seed: int = 0) -> dict[str, torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    return {name: torch.randn(3, *shape, generator=source, dtype=torch.float64) for name, shape in (("w", (4, 6)), ("gain", (5,)))}


def _step(rate: float) -> Step:
    return Step(lr=torch.full((3,), rate, dtype=torch.float64))


def test_a_rate_that_comes_after_is_the_length_of_the_step() -> None:
    how, update = Orthogonal(inner=Gradient()), _update()
    one, half, none = (how.expose((), update, _step(rate)) for rate in (1.0, 0.5, 0.0))
    for name in update:
        assert_near(half[name], 0.5 * one[name])
        assert not none[name].any()
    assert_near(one["w"], newton_schulz(-update["w"]))
    assert_near(one["gain"], -update["gain"])


def test_a_rate_that_comes_before_is_lost_on_matrices_and_kept_on_vectors() -> None:
    how, update = Orthogonal(inner=Gradient(), rate="before"), _update()
    small = {name: 0.01 * u for name, u in update.items()}
    whole, scaled = how.expose((), update, _step(1.0)), how.expose((), small, _step(0.01))
    assert_near(scaled["w"], whole["w"])
    assert_near(scaled["gain"], 0.01 * whole["gain"])


def test_newton_schulz_keeps_directions_and_levels_sizes() -> None:
    x = _update()["w"]
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    for matrix, left, right in ((x, u, vh), (x.transpose(1, 2), vh.transpose(1, 2), u.transpose(1, 2))):
        core = left.transpose(1, 2) @ newton_schulz(matrix) @ right.transpose(1, 2)
        sizes = core.diagonal(dim1=1, dim2=2)
        assert bool(((sizes > 0.5) & (sizes < 1.3)).all())
        assert_near(core, torch.diag_embed(sizes))
    assert not newton_schulz(torch.zeros(2, 3)).any()
