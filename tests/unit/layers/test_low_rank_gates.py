"""Gates that are vectors over the channels of a head, straight from the stream or through a waist."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from retain import Gates, MemoryRule, NeuralMemory, presets, retention, structure
from retain.layers import LowRankGates
from retain.layers.gates import Narrow
from tests.samples import layer, stream
from tests.tolerances import assert_near

DIM, HEADS, RANK = 12, 2, 3
YAAD = presets.yaad(gates="channel")


def _built(gates: Gates, rule: MemoryRule = YAAD) -> NeuralMemory:
    torch.manual_seed(0)
    return NeuralMemory(DIM, heads=HEADS, rule=rule, gates=gates).double()


def _gates(memory: NeuralMemory, x: Tensor) -> dict[str, Tensor]:
    found, _ = memory.gates(x, None, torch.zeros(len(x), dtype=torch.long), torch.full((len(x),), x.shape[1]))
    return {name: gate for name, gate in found.items() if gate is not None}


def _logits(memory: NeuralMemory, x: Tensor) -> dict[str, Tensor]:
    """The linear functions of the stream that the gates are curves of [tokens, heads * width]."""
    gates, most = _gates(memory, x[None]), YAAD.learner.channel_max
    shares = {"channels": gates["channels"] / most, "threshold": gates["threshold"] / 2, "retain": 1 - gates["retain"]}
    return {name: torch.logit(share[0].flatten(1)) for name, share in shares.items()}


def _maps(memory: NeuralMemory) -> dict[str, Tensor]:
    """The linear maps of the gates [dim, heads * width]."""
    units = torch.eye(DIM, dtype=torch.float64)
    return {name: z - _logits(memory, 0 * units)[name] for name, z in _logits(memory, units).items()}


def test_the_maps_of_gates_by_channel_have_the_rank_that_is_asked_for_and_the_others_theirs() -> None:
    narrow, full = (_maps(_built(gates)) for gates in (LowRankGates(rank=RANK), Gates()))
    assert narrow.keys() == full.keys() == {"channels", "threshold", "retain"}
    for name, found in narrow.items():
        assert int(torch.linalg.matrix_rank(found, rtol=1e-6)) == RANK, name
        assert int(torch.linalg.matrix_rank(full[name], rtol=1e-6)) == DIM, name
    assert _built(LowRankGates(rank=RANK)).gates.weight.shape[0] == HEADS  # what is not by channel: the rate


def test_a_waist_is_two_maps_with_nothing_between() -> None:
    memory, x = _built(LowRankGates(rank=RANK)), torch.randn(1, 5, DIM, dtype=torch.float64)
    part = memory.gates.narrow["retain"]
    assert isinstance(part, Narrow)
    start = memory.gates.gates.logit(3e-4)
    z = (x[0] @ part.down.T @ part.up.T + start).unflatten(-1, (HEADS, -1))
    assert_near(_gates(memory, x)["retain"][0], 1 - z.sigmoid(), {torch.float64: 1e-6})


def test_gates_by_channel_start_where_those_of_a_head_do() -> None:
    nothing = torch.zeros(1, 1, DIM, dtype=torch.float64)
    head = _gates(_built(Gates(), presets.yaad()), nothing)
    for gates in (Gates(), LowRankGates(rank=RANK)):
        found = _gates(_built(gates), nothing)
        torch.testing.assert_close(found["lr"], head["lr"])
        torch.testing.assert_close(found["retain"], head["retain"][..., None].expand(1, 1, HEADS, 6))
        torch.testing.assert_close(found["threshold"], torch.ones(1, 1, HEADS, 1, 6, dtype=torch.float64))
        torch.testing.assert_close(found["channels"], torch.ones(1, 1, HEADS, 6, dtype=torch.float64))


@pytest.mark.parametrize("dim", [32, 512])
def test_a_product_through_a_waist_starts_as_small_as_a_map_of_full_rank(dim: int) -> None:
    torch.manual_seed(0)
    rule = replace(YAAD, structure=structure.Matrix())
    full, narrow = (gates.build(dim, 1, (dim, dim), 1, rule) for gates in (Gates(), LowRankGates(rank=16)))
    for part in narrow.narrow.values():
        assert isinstance(part, Narrow)
        product = part.up @ part.down
        assert float(product.detach().std()) == pytest.approx(float(full.weight.detach().std()), rel=0.2)


def test_the_stream_teaches_both_maps() -> None:
    memory = layer("narrow")
    memory(stream())[0][:, -1].square().sum().backward()
    for name, weight in memory.gates.named_parameters():
        assert weight.grad is not None, name
        assert bool(weight.grad.any()), name


@pytest.mark.parametrize("gates", [Gates(curve="hard"), LowRankGates(rank=RANK, curve="hard")], ids=["full", "narrow"])
def test_the_cost_of_gates_by_channel_is_their_mean(gates: Gates) -> None:
    memory, x = _built(gates), torch.randn(2, 9, DIM, dtype=torch.float64)
    found = _gates(memory, x)
    rate, forgotten = found["lr"] / memory.gates.rate, (1 - found["retain"]) / gates.most_forgotten
    assert_near(memory.openness(x), rate.mean((2, 3)) + forgotten.mean((2, 3)))


def test_a_step_takes_the_mean_of_what_comes_through_a_waist() -> None:
    gates = LowRankGates(rank=RANK, pool="mean")
    rule = replace(presets.memora(update_every=6, gates="channel"), step_every=3)
    memory, x = _built(gates, rule), torch.randn(1, 12, DIM, dtype=torch.float64)
    alone = _built(replace(gates, pool="last"), rule)
    z = torch.logit(1 - _gates(alone, x)["retain"]).unflatten(1, (4, 3)).mean(2)
    assert_near(_gates(memory, x)["retain"][:, 2::3], 1 - z.sigmoid())


def test_gates_of_low_rank_are_refused_where_they_would_do_nothing() -> None:
    with pytest.raises(ValueError, match=r"LowRankGates\.rank must be at least 1, got 0\. For maps of full rank use Gates\(\)"):
        LowRankGates(rank=0)
    with pytest.raises(ValueError, match=r"Gates\.momentum starts at 1\.0"):
        LowRankGates(momentum=1.0)
    with pytest.raises(ValueError, match=r"a number for each channel, and this rule has none; use Gates\(\)"):
        _built(LowRankGates(), presets.titans())


def test_keys_made_wider_bring_wider_gates() -> None:
    """Gates of what is learnt and kept are as wide as keys, those of an error as wide as values."""
    rule = replace(YAAD, structure=structure.Matrix(), retention=retention.OuterDecay())
    module = LowRankGates(rank=RANK).build(DIM, HEADS, (10, 6), 2, rule)
    assert module.by_channel == {"channels", "threshold", "retain"}
    assert {name: module.widths[name] for name in module.by_channel} == {"channels": 10, "threshold": 12, "retain": 16}
