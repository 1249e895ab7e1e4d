"""ATLAS sections 3.1 and 4.1: polynomial features of queries and keys."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from retain import Gates, MemoryRule, NeuralMemory, Projections, learner, load_state, presets, retention, save_state, structure
from retain.layers import Polynomial
from retain.layers.described import memory_from
from retain.models import RetainConfig, RetainForCausalLM
from tests.tolerances import assert_near

EXACT = {torch.float64: 1e-10}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(rule: MemoryRule, degree: int = 2, **settings: object) -> NeuralMemory:
    """A layer in float64 on features of queries and keys, whose a_i do not stand where they start."""
    torch.manual_seed(0)
    memory = NeuralMemory(6, heads=2, rule=rule, projections=Projections(features=Polynomial(degree=degree)), **settings).double()  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        assert memory.projections.features is not None
        memory.projections.features.root.mul_(torch.linspace(0.8, 1.2, degree + 1))
    return memory


@pytest.mark.equation("atlas", 5)
@pytest.mark.parametrize(("width", "degree"), [(1, 1), (3, 2), (4, 3), (2, 5), (5, 4)])
def test_the_product_of_features_is_the_polynomial_of_the_product(width: int, degree: int) -> None:
    phi = Polynomial(degree=degree).build(width).double()
    weights = normal(degree + 1, seed=2).square()
    with torch.no_grad():
        phi.root.copy_(weights.sqrt() * torch.where(torch.arange(degree + 1) % 2 == 0, 1.0, -1.0))
    q, k = normal(7, width), normal(7, width, seed=1)
    expected = sum(weights[i] * (q @ k.t()) ** i for i in range(degree + 1))
    assert isinstance(expected, Tensor)
    assert_near(phi(q) @ phi(k).t(), expected, EXACT)
    assert phi(q).shape[-1] == Polynomial(degree=degree).width(width) == math.comb(width + degree, degree)


@pytest.mark.equation("atlas", 4)
@pytest.mark.equation("atlas", 23)
def test_ten_terms_are_the_exponential() -> None:
    phi = Polynomial(degree=10).build(3).double()
    q, k = (torch.nn.functional.normalize(x, dim=-1) for x in (normal(50, 3), normal(50, 3, seed=1)))
    error = (phi(q) @ phi(k).t() - torch.exp(q @ k.t())).detach().abs().max()
    assert float(error) < 1e-7


@pytest.mark.equation("atlas", 22)
def test_a_power_is_the_tensor_power_with_equal_entries_put_together() -> None:
    phi, x = Polynomial(degree=3).build(2).double(), normal(2)
    whole = [
        math.prod(float(x[i]) for i in place) / math.factorial(degree) ** 0.5 for degree in range(4) for place in product(range(2), repeat=degree)
    ]
    assert float(phi(x).detach().square().sum()) == pytest.approx(sum(entry**2 for entry in whole), rel=1e-6)
    assert_near(phi(x).detach()[:3], torch.tensor([1.0, *x.tolist()], dtype=torch.float64))
    a, b = x.tolist()
    expected = torch.tensor([a * a, 2**0.5 * a * b, b * b], dtype=torch.float64) / 2**0.5
    assert_near(phi(x).detach()[3:6], expected, {torch.float64: 1e-7})  # 1 / sqrt(i!) is stored in float32


def looped(memory: NeuralMemory, x: Tensor, correct: bool) -> Tensor:
    """Linear attention, or DeltaNet if a write makes up for what is there, over features, written out."""
    features = memory.projections.features
    assert features is not None
    lengths = torch.tensor([x.shape[1]])
    q, k, v, _ = memory.projections((x, x, x), None, lengths)
    gates, _ = memory.gates(x, None, torch.tensor([0]), lengths, features.reach)
    lr = gates["lr"]
    assert lr is not None
    y = torch.zeros(x.shape[1], 2, 3, dtype=torch.float64)
    for head in range(2):
        m = torch.zeros(3, 10, dtype=torch.float64)
        for t in range(x.shape[1]):
            key, value, rate = k[0, t, head, 0], v[0, t, head, 0], lr[0, t, head, 0]
            m = m + rate * torch.outer(value - m @ key if correct else value, key)
            y[t, head] = m @ q[0, t, head]
    return memory.output(y.unsqueeze(0), x)


@pytest.mark.equation("atlas", 10)
@pytest.mark.parametrize("engine", ["auto", "dual", "recurrent"])
@pytest.mark.parametrize("preset", [presets.linear_attention, presets.delta_net])
def test_a_layer_on_features_is_the_loop_over_features(preset: Callable[[], MemoryRule], engine: str) -> None:
    memory, x = layer(preset(), gates=Gates(lr=0.4), engine=engine), normal(1, 9, 6, seed=3)
    assert_near(memory(x)[0], looped(memory, x, correct=preset is presets.delta_net), EXACT)


def test_the_rate_makes_up_for_the_length_of_the_features() -> None:
    memory, x = layer(presets.delta_net(), degree=3), normal(1, 4, 6)
    features, lengths = memory.projections.features, torch.tensor([4])
    assert features is not None
    _, k, _, _ = memory.projections((x, x, x), None, lengths)
    assert_near(k.square().sum(-1), features.reach.expand(1, 4, 2, 1), {torch.float64: 1e-4})
    gates, _ = memory.gates(x, None, torch.tensor([0]), lengths, features.reach)
    plain, _ = memory.gates(x, None, torch.tensor([0]), lengths)
    assert gates["lr"] is not None
    assert plain["lr"] is not None
    assert_near(gates["lr"] * features.reach, plain["lr"])
    stated = layer(presets.delta_net(), gates=Gates(rate=0.3))
    assert_near(*(g for reach in (1.0, 2.0) if (g := stated.gates(x, None, torch.tensor([0]), lengths, reach)[0]["lr"]) is not None))


def test_every_weight_of_a_power_is_learnt_and_none_turns_negative() -> None:
    memory = layer(presets.delta_net(), degree=3)
    features, x = memory.projections.features, normal(2, 12, 6)
    assert features is not None
    memory(x)[0].square().sum().backward()
    assert features.root.grad is not None
    assert bool((features.root.grad.abs() > 1e-6).all())
    gradient = torch.autograd.gradcheck(lambda root: torch.func.functional_call(features, {"root": root}, (x[0, :2],)), (features.root,))
    assert gradient
    with torch.no_grad():
        features.root.neg_()
    k = features(normal(1, 3))
    assert float((k @ k.t()).detach()) > 0


@pytest.mark.parametrize(
    "rule",
    [
        presets.delta_net(),
        replace(presets.delta_net(), retention=retention.ChannelDecay()),
        replace(presets.delta_net(), retention=retention.OuterDecay(), learner=learner.PerChannel(inner=learner.Gradient())),
        replace(presets.titans(update_every=4), structure=structure.MLP(expansion=0.5)),
    ],
)
def test_a_stream_on_features_goes_on_from_a_file(rule: MemoryRule, tmp_path: Path) -> None:
    memory, x = layer(rule), normal(2, 11, 6)
    whole, _ = memory(x)
    first, state = memory(x[:, :5])
    save_state(state, f"{tmp_path}/features.memory", rule)
    second, _ = memory(x[:, 5:], load_state(f"{tmp_path}/features.memory", rule))
    assert_near(torch.cat([first, second], dim=1), whole)
    other = layer(rule)
    with torch.no_grad():
        other.projections.to_k.weight.zero_()
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other(x)[0], whole)
    y, _ = memory.retrieve(x, memory.weights(state), state.buffers["tail"])
    assert_near(y, memory(x, state, write=False)[0])


def test_a_configuration_names_features(tmp_path: Path) -> None:
    given = {"preset": "delta_net", "heads": 2, "projections": {"features": {"name": "Polynomial", "degree": 3}}}
    assert memory_from(given, 8).projections.projections.features == Polynomial(degree=3)
    assert memory_from({**given, "projections": {"features": "Polynomial"}}, 8).projections.projections.features == Polynomial()
    config = RetainConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, block="lmm", memory=given)
    model, tokens = RetainForCausalLM(config).eval(), torch.arange(9)[None]
    model.save_pretrained(tmp_path)
    loaded = RetainForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(loaded(tokens).logits, model(tokens).logits)
    with pytest.raises(ValueError, match="no features 'Fourier'; choose one of Polynomial"):
        memory_from({"projections": {"features": "Fourier"}}, 8)
    with pytest.raises(ValueError, match=r"memory\['change'\] has no 'features'"):
        memory_from({"change": {"features": "Polynomial"}}, 8)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (presets.titans(), "NormResidual adds its input to its output, so keys and values must be equally wide, got 10 and 3"),
        (replace(presets.titans(), structure=structure.ResidualGLU()), "ResidualGLU adds to its input, so keys and values must be equally wide"),
        (replace(presets.titans(), structure=structure.Module(module=torch.nn.Linear(3, 3))), "mat1 and mat2 shapes cannot be multiplied"),
        (
            replace(presets.titans(), structure=structure.MLP(), retention=retention.ChannelDecay()),
            "ChannelDecay has 10 channels, but the weight 'w1' of one head",
        ),
        (
            replace(presets.titans(), structure=structure.MLP(), retention=retention.PerChannel()),
            "retention.PerChannel has 10 channels, but the weight 'w1' of one head",
        ),
        (
            replace(presets.titans(), structure=structure.MLP(), learner=learner.Orthogonal(inner=learner.PerChannel())),
            "learner.PerChannel has 10 channels, but the weight 'w1' of one head",
        ),
        (
            replace(presets.titans(), structure=structure.MLP(), retention=retention.OuterDecay()),
            "OuterDecay has 13 numbers for keys and values together, but the weight 'w0' of one head",
        ),
    ],
)
def test_a_memory_that_cannot_be_wider_in_keys_is_refused_with_its_cure(rule: MemoryRule, why: str) -> None:
    sentence = rf"Polynomial\(degree=2\) makes keys of width 3 into keys of width 10, .*{why}.* Cure: a structure without a residual"
    with pytest.raises(ValueError, match=sentence):
        layer(rule)


def test_a_degree_that_cannot_be_is_refused() -> None:
    for degree in (0, 21):
        with pytest.raises(ValueError, match=f"Polynomial.degree must be 1 to 20, .* got {degree}"):
            Polynomial(degree=degree)
