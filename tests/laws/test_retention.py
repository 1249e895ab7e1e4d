"""What each retention gate promises by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from retain import retention
from retain.core.contracts import AbstractChannelRetention, AbstractRetention, AbstractScalarRetention
from retain.core.shapes import Params
from retain.core.tokens import Step
from tests.cases import RETENTIONS, named
from tests.laws.test_parts import normal, unit
from tests.tolerances import assert_near


def _weights() -> Params:
    return {"w": normal(2, 2, 3, 4), "u": normal(2, 2, 5, 3, seed=1), "gain": normal(2, 2, 3, seed=2)}


def _weights_for(gate: AbstractRetention) -> Params:
    """Those that the gate can be given: some gates are for one matrix."""
    return {"w": _weights()["w"]} if gate.gate == "outer" else _weights()


def _flat(params: Params) -> Params:
    return {name: w.flatten(0, 1) for name, w in params.items()}


def _gate(gate: AbstractRetention, value: Tensor) -> Step:
    """A step with these numbers [2, 2, 3] as retention gate, of which a head's takes the first and the columns' the last."""
    outer = torch.cat([value, value[..., -1:].expand(*value.shape[:-1], 4)], dim=-1)
    return Step(retain={"none": None, "head": value[..., 0], "channel": value, "outer": outer}[gate.gate])


_SHRINKS = (retention.ElasticNet,)  # at every step
_TURNS = (retention.KL, retention.Bregman, retention.FDivergence)  # what was begun with into other weights


def _exposes_any(gate: AbstractRetention) -> bool:
    """Whether any weights can be exposed."""
    gate = gate.inner if isinstance(gate, (retention.Boundary, retention.PerChannel)) else gate
    smooth = isinstance(gate, retention.ElasticNet) and gate.kind == "smooth"
    return not (smooth or isinstance(gate, _TURNS) or (isinstance(gate, retention.Lq) and gate.link == "norm"))


@pytest.mark.parametrize("gate", [gate for gate in RETENTIONS if not isinstance(gate, _SHRINKS)], ids=named)
def test_keeping_all_is_the_identity(gate: AbstractRetention) -> None:
    before = _weights_for(gate)
    begun = gate.start(before)
    after = gate.expose(gate.keep(begun, _gate(gate, torch.ones(2, 2, 3, dtype=torch.float64))))
    for name, value in gate.expose(begun).items():
        assert torch.equal(after[name], value)


@pytest.mark.parametrize("gate", [gate for gate in RETENTIONS if not isinstance(gate, _SHRINKS)], ids=named)
def test_keeping_twice_is_keeping_the_product(gate: AbstractRetention) -> None:
    before, a, b = gate.start(_weights_for(gate)), unit(2, 2, 3), unit(2, 2, 3, seed=1)
    twice, once = gate.keep(gate.keep(before, _gate(gate, a)), _gate(gate, b)), gate.keep(before, _gate(gate, a * b))
    for name, value in once.items():
        assert_near(twice[name], value, what=name)


@pytest.mark.parametrize("gate", [gate for gate in RETENTIONS if gate.gate != "none"], ids=named)
def test_keeping_nothing_leaves_nothing(gate: AbstractRetention) -> None:
    after = gate.keep(gate.start(_weights_for(gate)), _gate(gate, torch.zeros(2, 2, 3, dtype=torch.float64)))
    assert not any(bool(value.any()) for value in after.values())


@pytest.mark.parametrize("gate", RETENTIONS, ids=named)
def test_a_gate_is_told_which_axes_count_memories(gate: AbstractRetention) -> None:
    """[batch, heads, ...] and [memories, ...] are the same memories."""
    before, delta, step = _weights_for(gate), {name: 0.3 * w.flip(0) for name, w in _weights_for(gate).items()}, _gate(gate, unit(2, 2, 3))
    flat_step = Step(retain=None if step.retain is None else step.retain.flatten(0, 1))
    begun = gate.start(before)
    after = gate.expose(gate.moved(begun, delta, step))
    flat = gate.expose(gate.moved(_flat(begun), _flat(delta), flat_step, lead=1), lead=1)
    for name, value in _flat(after).items():
        assert_near(flat[name], value, what=name)
        assert_near(gate.start(_flat(before), lead=1)[name], _flat(begun)[name], what=name)


@pytest.mark.parametrize("gate", [gate for gate in RETENTIONS if _exposes_any(gate)], ids=named)
def test_the_accumulator_of_a_start_exposes_it(gate: AbstractRetention) -> None:
    before = _weights_for(gate)
    for name, value in gate.expose(gate.start(before)).items():
        assert_near(value, before[name], what=name)


@pytest.mark.parametrize("gate", [gate for gate in RETENTIONS if isinstance(gate, AbstractScalarRetention)], ids=named)
def test_the_ratio_of_a_scalar_gate_is_what_it_keeps(gate: AbstractScalarRetention) -> None:
    share, before = unit(2, 2, 3), _weights_for(gate)
    ratio = gate.ratio(_gate(gate, share).retain, share[..., 0])
    for name, value in gate.keep(before, _gate(gate, share)).items():
        assert_near(value, ratio.reshape(2, 2, *(1,) * (value.ndim - 2)) * before[name], what=name)


@pytest.mark.parametrize("gate", [gate for gate in RETENTIONS if isinstance(gate, AbstractChannelRetention)], ids=named)
def test_the_ratios_of_a_gate_of_channels_are_what_it_keeps_of_the_keys(gate: AbstractChannelRetention) -> None:
    share, before = unit(2, 2, 3), {"w": normal(2, 2, 3, 4)}
    assert_near(gate.keep(before, _gate(gate, share))["w"], gate.ratio(share).unsqueeze(-1) * before["w"])


@pytest.mark.parametrize("gate", RETENTIONS, ids=named)
def test_gradients_are_taken_where_the_gate_says(gate: AbstractRetention) -> None:
    anchor, step = _weights_for(gate), _gate(gate, unit(2, 2, 3))
    point, expected = gate.gradient_point(anchor, step), gate.keep(anchor, step) if gate.grad_at == "decayed" else anchor
    for name, value in expected.items():
        assert torch.equal(point[name], value)


@pytest.mark.parametrize("gate", [gate for gate in RETENTIONS if gate.gate != "none"], ids=named)
def test_a_missing_gate_is_asked_for(gate: AbstractRetention) -> None:
    with pytest.raises(ValueError, match=r"needs a `retain` gate .* Use retention\.Keep\(\)"):
        gate.keep(_weights_for(gate), Step())
