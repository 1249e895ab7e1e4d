"""What is written down of a model's memories is what the layers themselves say, asked in another way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from retain.inspection import read, text_page
from retain.layers import NeuralMemory
from retain.models import RetainForCausalLM
from tests.unit.inspection.pages import TITANS, arrays_in, bytes_of, data_in, model_of, text_of

CLOSE: dict[str, Any] = {"rtol": 2e-4, "atol": 2e-5}
LENGTH = 75


def _memory(model: RetainForCausalLM, number: int) -> NeuralMemory:
    blocks: Any = model.model.layers
    return blocks[number].mixer.memory


def _asked(model: RetainForCausalLM, tokens: Tensor, number: int) -> tuple[Tensor, Any, Tensor, Tensor]:
    """A layer's input in one call of the model, the state before it, its surprise, and the model's scores."""
    calls, memory, blocks = [], _memory(model, number), model.model.layers
    state = blocks[number].start(1).memories["memory"]  # pyright: ignore
    handle = memory.register_forward_pre_hook(lambda _, given, how: calls.append(given[0]), with_kwargs=True)
    with torch.no_grad():
        scores: Any = model(tokens[None]).logits
        handle.remove()
        x = calls[-1]
        _, _, surprise = memory(x, state, return_surprise=True)
    return x, state, surprise[0], scores[0]


@pytest.mark.parametrize("block", [["lmm", "mag"], ["memory_before_attention", "mal"]])
def test_the_page_holds_what_the_layers_say(block: list[str]) -> None:
    model, tokens = model_of(block), bytes_of(LENGTH)
    found = read(model, tokens)
    page = text_page(found, list(text_of(LENGTH)), "a text")
    arrays = arrays_in(page)
    for number in range(2):
        x, state, surprise, scores = _asked(model, tokens, number)
        np.testing.assert_allclose(arrays[f"{number}.surprise"].reshape(2, LENGTH), surprise.T.numpy(), **CLOSE)
        with torch.no_grad():
            gates, _ = _memory(model, number).gates(x, None, state.clock, torch.tensor([LENGTH]))
        for name, gate in (("lr", gates["lr"][0, :, :, 0]), ("momentum", gates["momentum"][0, :, :, 0]), ("forgetting", 1 - gates["retain"][0])):
            np.testing.assert_allclose(arrays[f"{number}.{name}"].reshape(2, LENGTH), gate.T.numpy(), **CLOSE)
    expected = -torch.log_softmax(scores[:-1].double(), -1)[torch.arange(LENGTH - 1), tokens[1:]] / math.log(2)
    assert math.isnan(arrays["bits"][0])
    np.testing.assert_allclose(arrays["bits"][1:], expected.numpy(), **CLOSE)
    assert "".join(data_in(page)["pieces"]) == text_of(LENGTH)


def test_norms_are_those_of_the_weights_it_would_answer_with() -> None:
    model, tokens = model_of(), bytes_of(LENGTH)
    layer = read(model, tokens).layers[0]
    memory, blocks = _memory(model, 0), model.model.layers
    with torch.no_grad():
        start = memory.weights(blocks[0].start(1).memories["memory"])  # pyright: ignore
    for i, length in enumerate((0, 32, 64, LENGTH)):
        with torch.no_grad():
            out: Any = model(tokens[None, :length], use_cache=True) if length else None
            now = memory.weights(out.past_key_values.states[0].memories["memory"]) if length else start
        for head in range(2):
            norm = math.sqrt(sum(float(w[0, head].double().square().sum()) for w in now.values()))
            moved = math.sqrt(sum(float((w[0, head] - start[name][0, head]).double().square().sum()) for name, w in now.items()))
            assert layer.norms[head, i] == pytest.approx(norm, rel=1e-5)
            assert layer.distances[head, i] == pytest.approx(moved, rel=1e-4, abs=1e-6)


def test_segments_of_mac_are_one_stream() -> None:
    model, tokens = model_of("mac"), bytes_of(LENGTH)
    layer = read(model, tokens, traced=[LENGTH - 1]).layers[0]
    assert layer.per_token["surprise"].shape == (2, LENGTH)
    seen, memory, state = [], _memory(model, 0), model.model.layers[0].start(1).memories["memory"]  # pyright: ignore
    memory.register_forward_pre_hook(lambda _, given, how: seen.append(given[0]), with_kwargs=True)
    with torch.no_grad():
        model(tokens[None])
        _, _, surprise = memory(torch.cat(seen, dim=1), state, return_surprise=True)
    torch.testing.assert_close(layer.per_token["surprise"], surprise[0].T, **CLOSE)
    assert int(layer.places[0, 0].max()) <= LENGTH - 1


def test_the_model_is_as_it_was_even_after_a_slip(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of()
    before = _memory(model, 0).engine
    model.train()
    read(model, bytes_of(40))
    assert _memory(model, 0).engine is before
    assert model.training
    monkeypatch.setattr("retain.inspection.reading.F.cross_entropy", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        read(model, bytes_of(40))
    assert _memory(model, 0).engine is before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"traced": [40]}, "the tokens 0 to 39, and there is no token 40"),
        ({"traced": [-1]}, "there is no token -1"),
        ({"traced": [3], "span": 0}, "span counts tokens"),
    ],
)
def test_what_cannot_be_traced_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(model_of(), bytes_of(40), **given)


def test_a_model_without_a_memory_to_look_at_is_refused() -> None:
    with pytest.raises(ValueError, match=r"blocks \(sliding_window\) have no NeuralMemory"):
        read(model_of("sliding_window"), bytes_of(40))
    with pytest.raises(ValueError, match="a row of at least one token"):
        read(model_of(), torch.zeros(0, dtype=torch.long))


def test_blocks_whose_memory_is_of_another_kind_are_left_out() -> None:
    found = read(model_of(["hope", "lmm"], levels=[]), bytes_of(40))
    assert [layer.name for layer in found.layers] == ["layers.1"]


def test_levels_that_learn_read_tokens_again_which_is_not_counted_twice() -> None:
    model = model_of("lmm", levels=[{"every": 8, "options": {"lr": 1e-2}}])
    whole, part = (read(model, bytes_of(length)).layers[0].per_token["surprise"] for length in (50, 40))
    assert whole.shape == (2, 50)
    torch.testing.assert_close(whole[:, :40], part, **CLOSE)


def test_a_page_needs_a_piece_for_each_token() -> None:
    with pytest.raises(ValueError, match="3 pieces of 40 tokens"):
        text_page(read(model_of(memory=TITANS), bytes_of(40)), ["a", "b", "c"], "a text")
