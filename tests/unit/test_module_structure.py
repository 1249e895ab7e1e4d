"""Any torch module as a memory."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from retain import Anchor, MemoryRule, NeuralMemory, bias, learner, presets, retention, structure
from retain.engines import Dual, Materialised, Recurrent, select
from tests.streams import run, world
from tests.tolerances import assert_near


def _net(width: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 4), nn.Tanh(), nn.Linear(4, width)).double()


def _rule(**clocks: object) -> MemoryRule:
    rule = MemoryRule(
        structure=structure.NormResidual(inner=structure.Module(module=_net())),
        bias=bias.L2(),
        retention=retention.Decay(),
        learner=learner.Momentum(),
        update_every=6,
        step_every=3,
    )
    return replace(rule, **clocks)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "clocks", [{}, {"step_every": 1}, {"update_every": None}, {"reads": "before"}, {"anchor": Anchor(transition="gated")}], ids=str
)
@pytest.mark.parametrize("calls", [None, [[4, 4], [1, 1], [5, 5]], [[1, 1]] * 10, [[2, 5], [8, 3]]], ids=["whole", "cut", "single", "ragged"])
def test_the_materialised_engine_is_the_oracle(clocks: dict[str, object], calls: list[list[int]] | None) -> None:
    here = world(_rule(**clocks), 1, pairs=2)
    here = here.cut([10, 8] if calls == [[2, 5], [8, 3]] else [10, 10], masked=True)
    expected, found = run(here, [Recurrent()]), run(here, [Materialised(tile=3)], calls)
    for name, tensor in found.tensors().items():
        assert_near(tensor, expected.tensors()[name], what=name)


def test_the_module_itself_never_changes() -> None:
    net = _net(4).float()
    before = [p.clone() for p in net.parameters()]
    memory = NeuralMemory(4, rule=replace(presets.titans(), structure=structure.Module(module=net)))
    memory(torch.randn(1, 100, 4))[0].sum().backward()
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, net.parameters(), strict=True))
    assert all(w.grad is not None for w in memory.initial.values())


def test_it_goes_to_the_engine_that_takes_it() -> None:
    assert select(_rule()).name == "materialised"
    assert "as a whole" in (Dual().why_not(_rule()) or "")


@pytest.mark.parametrize(("net", "message"), [(nn.BatchNorm1d(3), "running_mean"), (nn.Tanh(), "no parameters")], ids=["buffers", "none"])
def test_modules_that_cannot_be_a_memory_are_refused(net: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        structure.Module(module=net)


def test_a_module_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="width 6"):
        structure.Module(module=nn.Linear(4, 5)).init(heads=1, key_dim=4, value_dim=6)
