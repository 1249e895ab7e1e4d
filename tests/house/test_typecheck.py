"""Shapes and types written in the library are checked while the tests run."""

import pytest
import torch
from jaxtyping import TypeCheckError

from retain import bias, structure


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        bias.L2().loss(torch.zeros(2, 3), torch.zeros(2, 4))


def test_a_wrong_type_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        structure.MLP(depth="two")  # pyright: ignore[reportArgumentType]


def test_an_int_is_welcome_where_a_float_is_asked_for() -> None:
    assert structure.MLP(depth=2, expansion=4) == structure.MLP(depth=2, expansion=4.0)
