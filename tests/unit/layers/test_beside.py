"""A memory that takes its gradients beside another's weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from retain import Anchor, Gates, MemoryRule, NeuralMemory, presets
from tests.samples import DIM, stream
from tests.tolerances import GRADIENTS, assert_near


def _rule(residual: str) -> MemoryRule:
    return replace(presets.titans(expansion=1.5, update_every=6, step_every=3), anchor=Anchor(residual=residual))  # pyright: ignore[reportArgumentType]


def _pair(engine: str = "auto", below: str = "auto") -> tuple[NeuralMemory, NeuralMemory]:
    torch.manual_seed(0)
    first = NeuralMemory(DIM, heads=2, rule=_rule("none"), gates=Gates(lr=0.3), engine=below).double()
    second = NeuralMemory(DIM, heads=2, rule=_rule("weights"), gates=Gates(lr=0.3, pool="mean"), engine=engine).double()
    with torch.no_grad():
        for memory in (first, second):
            for path, weight in memory.named_parameters():
                if path.startswith(("gates", "initial")):
                    weight += 0.3 * torch.randn_like(weight)
    return first, second


def _through(pair: tuple[NeuralMemory, NeuralMemory], x: Tensor, sizes: tuple[int, ...], mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Outputs and surprise of the second memory, above the first, in calls of these sizes."""
    below = above = None
    outputs, surprises, done = [], [], 0
    for size in sizes:
        here = x[:, done : done + size]
        real = None if mask is None else mask[:, done : done + size]
        y, below, trail = pair[0](here, below, mask=real, return_weights=True)
        y, above, surprise = pair[1](here + y, above, mask=real, beside=trail, return_surprise=True)
        outputs.append(y)
        surprises.append(surprise)
        done += size
    return torch.cat(outputs, dim=1), torch.cat(surprises, dim=1)


@pytest.mark.parametrize("sizes", [(11,), (1,) * 11, (3, 6, 2), (4, 0, 7)], ids=str)
@pytest.mark.parametrize("engine", ["materialised", "recurrent"])
def test_any_split_of_the_stream_gives_one_answer(sizes: tuple[int, ...], engine: str) -> None:
    expected = _through(_pair("recurrent", "recurrent"), stream(), (11,))
    for found, wanted in zip(_through(_pair(engine), stream(), sizes), expected, strict=True):
        assert_near(found, wanted)


def test_rows_that_stand_at_different_places_are_rows_by_themselves() -> None:
    pair, x = _pair(), stream()
    mask = torch.ones(2, 11, dtype=torch.bool)
    mask[1, :4] = mask[1, 7] = False
    y, _ = _through(pair, x, (5, 6), mask)
    alone, _ = _through(pair, x[1:, mask[1]], (int(mask.sum(1)[1]),))
    assert_near(y[1, mask[1]], alone[0])
    assert_near(y[:1], _through(pair, x[:1], (11,))[0])


def test_gradients_flow_into_the_memory_below() -> None:
    found = []
    for engine in ("recurrent", "auto"):
        pair = _pair(engine, engine)
        x = stream().requires_grad_()
        y, _ = _through(pair, x, (11,))
        y.square().sum().backward()
        found.append([x.grad, *(w.grad for memory in pair for w in memory.parameters() if w.grad is not None)])
    assert len(found[0]) == len(found[1])
    for ours, expected in zip(found[1], found[0], strict=True):
        assert ours is not None
        assert expected is not None
        assert_near(ours, expected, GRADIENTS)
    assert all(w.grad is not None for w in pair[0].initial.values())


def test_the_weights_beside_it_matter_and_a_closed_gate_shuts_them_out() -> None:
    pair = _pair()
    open_, _ = _through(pair, stream(), (11,))
    plain = NeuralMemory(DIM, heads=2, rule=_rule("none"), gates=Gates(pool="mean")).double()
    own = {name: w[:-2] if name in ("gates.weight", "gates.bias") else w for name, w in pair[1].state_dict().items()}
    plain.load_state_dict(own)
    without = plain(stream() + pair[0](stream())[0])[0]
    assert float((open_ - without).detach().abs().max()) > 1e-3
    with torch.no_grad():
        pair[1].gates.weight[-2:] = 0
        pair[1].gates.bias[-2:] = -800.0
    assert_near(_through(pair, stream(), (11,))[0], without)


def test_a_trail_is_the_memory_before_each_step() -> None:
    first, _ = _pair()
    *_, trail = first(stream(), return_weights=True)
    assert trail.cuts == (0, 3, 6, 9, 11)
    for start, weights in zip(trail.cuts, trail.weights, strict=False):
        _, state, after = first(stream()[:, : start + 1], return_weights=True)
        for name, weight in weights.items():
            assert_near(weight, after.weights[-1][name])
        assert state.clock.tolist() == [start + 1] * 2


def test_a_memory_in_the_middle_of_a_fast_engines_segment_tells_its_weights() -> None:
    first, _ = _pair()
    _, state = first(stream()[:, :5])
    *_, trail = first(stream()[:, 5:], state, return_weights=True)
    *_, whole = first(stream(), return_weights=True)
    for weights, expected in zip(trail.weights, whole.weights[1:], strict=True):
        for name, weight in weights.items():
            assert_near(weight, expected[name])


def test_what_does_not_fit_is_refused() -> None:
    first, second = _pair()
    with pytest.raises(ValueError, match="return_weights=True"):
        second(stream())
    *_, trail = first(stream(), return_weights=True)
    with pytest.raises(ValueError, match="residual='none'"):
        first(stream(), beside=trail)
    with pytest.raises(ValueError, match=r"\(0, 3, 6, 9, 11\) and \(0, 3, 6, 8\)"):
        second(stream()[:, :8], beside=trail)
