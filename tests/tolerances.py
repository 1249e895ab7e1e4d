"""How close two ways of computing the same thing must come, relative to the largest number in sight."""

import torch
from torch import Tensor

VALUES = {torch.float64: 1e-9, torch.float32: 1e-5}
GRADIENTS = {torch.float64: 1e-7, torch.float32: 1e-4}
ROWS = {torch.float64: 1e-12, torch.float32: 1e-6}  # the same row in another batch: only the order of a sum may differ


def assert_near(actual: Tensor, expected: Tensor, tolerance: dict[torch.dtype, float] = VALUES, what: str = "value") -> None:
    """Fails, naming ``what``, unless shapes, types and numbers agree and no number is infinite or NaN."""
    assert actual.dtype == expected.dtype, f"{what}: {actual.dtype} instead of {expected.dtype}"
    assert actual.shape == expected.shape, f"{what}: shape {list(actual.shape)} instead of {list(expected.shape)}"
    actual, expected = actual.detach(), expected.detach()
    if not expected.is_floating_point():
        assert torch.equal(actual, expected), f"{what}: {actual.tolist()} instead of {expected.tolist()}"
        return
    assert bool(torch.isfinite(expected).all()), f"{what}: what was expected is not finite"
    assert bool(torch.isfinite(actual).all()), f"{what}: not finite"
    if not expected.numel():
        return
    scale = 1.0 + float(expected.abs().max())
    error = float((actual - expected).abs().max()) / scale
    assert error <= tolerance[expected.dtype], f"{what}: off by {error:.3g} of its scale {scale:.3g}"
