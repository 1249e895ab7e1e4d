"""The byte model: it streams, it forgets nothing at a cut, and without writes it has no long memory."""

from dataclasses import replace

import pytest
import torch

from retain import Gates, presets
from retain.demo.model import ByteModel, ByteModelConfig
from retain.demo.plan import CodePlan, NeedlePlan

SMALL = ByteModelConfig(dim=8, windows=(3, 4), gates=Gates(curve="hard", rate=0.03, forget_max=0.01, forget=0.003, lr=0.5))
TEXT = torch.randint(256, (2, 150), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[SMALL, replace(SMALL, rule=presets.delta_net(), gates=Gates(), memories=2, reach=6)], ids=["deep", "matrix"])
def model(request: pytest.FixtureRequest) -> ByteModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return ByteModel(request.param).eval()


@pytest.mark.parametrize("write", [True, False])
def test_a_stream_cut_into_calls_reads_the_same(model: ByteModel, write: bool) -> None:
    with torch.no_grad():
        whole, _, _ = model(TEXT, None, write)
        state, parts = None, []
        for stretch in TEXT.split([1, 40, 64, 3, 42], dim=1):
            part, state, _ = model(stretch, state, write)
            parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=1e-4)


def test_without_writes_only_the_last_bytes_matter(model: ByteModel) -> None:
    other = TEXT.clone()
    other[:, :100] = (other[:, :100] + 1) % 256
    with torch.no_grad():
        near, far = (model(text, None, False)[0][:, -1] for text in (TEXT, other))
        written, rewritten = (model(text, None, True)[0][:, -1] for text in (TEXT, other))
    torch.testing.assert_close(near, far, atol=1e-6, rtol=1e-5)
    assert (written - rewritten).abs().max() > 1e-4


def test_the_size_of_the_state_does_not_depend_on_what_was_read(model: ByteModel) -> None:
    with torch.no_grad():
        sizes = [model(TEXT[:, :n])[1].bytes_per_row() for n in (64, 128)]
    weights = sum(w.numel() * 4 for block in model.remembering for w in block.memory.initial.values())
    assert sizes[0] == sizes[1] >= weights


def test_gates_ajar_pushes_beyond_shut() -> None:
    model = ByteModel(SMALL)
    block = model.remembering[0]
    assert torch.equal(model.gates_open(TEXT) > 0, torch.ones_like(TEXT, dtype=torch.bool))
    with torch.no_grad():
        block.memory.gates.bias.fill_(-3.5)
        block.memory.gates.weight.zero_()
    assert model.gates_open(TEXT).max() == 0
    assert float(model.gates_ajar(TEXT, margin=0.0).detach()) == 0
    assert float(model.gates_ajar(TEXT, margin=1.5).detach()) == pytest.approx(2 / 3)


def test_the_gates_seen_are_the_gates_used() -> None:
    model = ByteModel(replace(SMALL, gates=replace(SMALL.gates, damped=False)))
    _, _, cost = model(TEXT)
    forgetting = torch.nn.functional.hardsigmoid(model._gate_logits(TEXT)[1])
    torch.testing.assert_close(cost, model.gates_open(TEXT).mean() + forgetting.mean())


def test_no_layer_attends() -> None:
    for config in (NeedlePlan.model, CodePlan.model):
        names = {type(module).__name__.lower() for module in ByteModel(config).modules()}
        assert not any("attention" in name for name in names), names
        assert "neuralmemory" in names
