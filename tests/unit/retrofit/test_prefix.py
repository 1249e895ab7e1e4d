"""What frozen layers make of rows that come again is computed once, and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from retain.retrofit import FrozenPrefix, MemoryCache, ask, attach, detach, disable_memory, memory_parameters, read_pages
from retain.retrofit import prefix as prefix_file
from retain.retrofit.attach import session_of
from retain.retrofit.prefix import some_layers

from .models import opened, words
from .pages import START, pages

KINDS: dict[str, dict[str, Any]] = {
    "the last layer": {"layers": (2,)},
    "several layers": {"layers": (1, 2), "refine": 2},
    "embeddings": {"layers": (1,), "values": "embedding"},
    "the first layer, too": {"layers": (0, 2), "values": "embedding", "features": "centred"},
}


def outcome(model: Any, prefix: FrozenPrefix | None) -> tuple[Tensor, dict[str, Tensor], MemoryCache]:
    """The losses of questions behind a cut, the gradients, and what is in memory."""
    model.zero_grad(set_to_none=True)
    cache = read_pages(model, pages(), START, prefix=prefix)
    losses = ask(model, pages(), cache, START, prefix=prefix).loss
    losses.sum().backward()
    return losses.detach(), {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}, cache


def calls_of(layer: torch.nn.Module) -> list[torch.Size]:
    """The shapes of what a layer is given from now on."""
    shapes: list[torch.Size] = []
    layer.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
    return shapes


@pytest.mark.parametrize("kind", KINDS)
def test_losses_gradients_and_memories_are_those_without_one(kind: str) -> None:
    model = opened(**KINDS[kind])
    losses, gradients, cache = outcome(model, None)
    prefix = FrozenPrefix(model)
    for _ in range(2):  # of rows that are new, and of those that are kept
        found, slopes, kept = outcome(model, prefix)
        torch.testing.assert_close(found, losses, rtol=1e-11, atol=1e-12)
        assert slopes.keys() == gradients.keys() == {name for name, weight in model.named_parameters() if weight.requires_grad}
        for name, slope in gradients.items():
            torch.testing.assert_close(slopes[name], slope, rtol=1e-9, atol=1e-12, msg=name)
        for ours, theirs in zip(kept.memories, cache.memories, strict=True):
            for name, weight in theirs.accumulator.items():
                torch.testing.assert_close(ours.accumulator[name], weight, rtol=1e-11, atol=1e-12, msg=name)


def test_rows_that_come_again_pass_no_frozen_layer_and_new_ones_among_them_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_file, "TOGETHER", 16)
    model = opened(layers=(2,))
    prefix, shapes = FrozenPrefix(model), calls_of(model.model.layers[1])
    first, second, third = words(1, 5)[0], words(1, 5, seed=1)[0], words(1, 3, seed=2)[0]
    before = prefix([first, second])
    assert (len(prefix), [tuple(shape) for shape in shapes]) == (2, [(2, 8, 16)])
    again = prefix([second, third, first])
    assert (len(prefix), [tuple(shape) for shape in shapes[1:]]) == (3, [(2, 8, 16)])
    assert torch.equal(again[[2, 0]], before)
    assert torch.equal(again[1, 3:], torch.zeros(2, 16, dtype=torch.float64))
    assert not again.requires_grad


def test_many_rows_go_through_the_frozen_layers_in_groups_of_one_length(monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(layers=(2,))
    rows = [words(1, time, seed=time)[0] for time in (2, 9, 3, 8)]
    expected = FrozenPrefix(model)(rows)
    monkeypatch.setattr(prefix_file, "TOGETHER", 16)
    shapes = calls_of(model.model.layers[0])
    torch.testing.assert_close(FrozenPrefix(model)(rows), expected, rtol=1e-12, atol=1e-13)
    assert [tuple(shape) for shape in shapes] == [(2, 8, 16), (2, 8, 16), (1, 16, 16)]


def test_the_stream_is_that_of_the_base_before_the_layer() -> None:
    model, seen = opened(layers=(1,)), []
    row = words(1, 6)[0]
    model.model.layers[1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model(row[None])
    torch.testing.assert_close(FrozenPrefix(model)([row]), seen[0], rtol=1e-12, atol=1e-13)


def test_an_error_among_some_layers_leaves_the_model_as_it_was() -> None:
    model = opened(layers=(1, 2))
    decoder, tokens = model.model, words(2, 6)
    layers, norm, expected = decoder.layers, decoder.norm, model(tokens).logits
    with some_layers(model, slice(1, 2), norm=False):
        assert (len(decoder.layers), decoder.norm is norm) == (1, False)
    prefix = FrozenPrefix(model)
    with pytest.raises(IndexError):
        prefix([torch.tensor([3, 4000])])  # no such word
    assert len(prefix) == 0
    breaks = layers[2].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        read_pages(model, pages(), START, prefix=prefix)
    breaks.remove()
    assert decoder.layers is layers
    assert decoder.norm is norm
    assert session_of(model).off == 0
    assert torch.equal(model(tokens).logits, expected)


def test_a_model_without_memories_is_refused() -> None:
    model = detach(opened())
    with pytest.raises(ValueError, match="no memories"):
        FrozenPrefix(model)
    assert len(FrozenPrefix(attach(model))) == 0
    assert next(memory_parameters(model)).requires_grad


def test_what_is_kept_of_a_row_is_the_same_to_the_last_bit_in_any_company() -> None:
    model = opened(dtype=torch.float32, layers=(2,))
    rows = [words(1, length, seed=length)[0] for length in (3, 16, 17, 40, 5, 300)]
    together = FrozenPrefix(model)(rows)
    backwards = FrozenPrefix(model)([*rows[::-1], *words(9, 12)])
    for i, row in enumerate(rows):
        alone = FrozenPrefix(model)([row])[0]
        assert torch.equal(together[i, : len(row)], alone)
        assert torch.equal(backwards[len(rows) - 1 - i, : len(row)], alone)


def test_it_is_what_the_layers_below_the_first_memory_say() -> None:
    model = opened(layers=(2,))
    row = words(1, 13)[0]
    with torch.no_grad(), disable_memory(model):
        stream = model(row[None], output_hidden_states=True).hidden_states[2]
    prefix = FrozenPrefix(model)
    assert torch.allclose(prefix([row]), stream, rtol=0, atol=1e-12)
    assert len(prefix) == 1
