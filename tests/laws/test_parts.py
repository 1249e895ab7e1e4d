"""What each part promises by itself."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from retain import MemoryRule, bias, learner, presets, retention, structure
from retain.core.contracts import (
    AbstractAffineBias,
    AbstractBias,
    AbstractLearner,
    AbstractLinearLearner,
    AbstractMatrix,
    AbstractReader,
    AbstractRetention,
    AbstractStructure,
)
from retain.core.reader import Plain
from retain.core.shapes import Params
from retain.core.tokens import Step
from retain.core.trees import each
from retain.engines.factored import DualReader, capture
from tests import cases
from tests.cases import BIASES, CASES, LEARNERS, PRESETS, RETENTIONS, STRUCTURES, named
from tests.tolerances import GRADIENTS, assert_near


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(*shape: int, seed: int = 0) -> Tensor:
    """Numbers from 0 to 1, a quarter of them exactly 0 or 1."""
    raw = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ((raw - 0.125) / 0.75).clamp(0, 1)


# ---- the table of cases


@pytest.mark.parametrize(("room", "rows"), [(structure, STRUCTURES), (bias, BIASES), (retention, RETENTIONS), (learner, LEARNERS)])
def test_every_part_has_a_row(room: object, rows: tuple[object, ...]) -> None:
    parts = {cls for _, cls in inspect.getmembers(room, inspect.isclass)}
    assert parts - {type(row) for row in rows} == set()


def test_every_preset_has_a_row() -> None:
    assert {name for name, _ in inspect.getmembers(presets, inspect.isfunction)} == set(PRESETS)


def test_every_case_has_a_name_of_its_own_and_an_engine_beside_the_oracle() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert {case.name for case in cases.CHOSEN} == cases._KEPT
    for case in CASES:
        assert cases.willing(case.rule), f"nothing but the oracle runs {case.name}"


def test_every_engine_is_judged_on_some_chosen_case() -> None:
    assert {name for _, name in cases.pairs_of(cases.CHOSEN)} == {engine.name for engine in cases.JUDGED}


# ---- bias


@pytest.mark.parametrize("held", BIASES, ids=named)
def test_gradient_of_a_bias_is_that_of_its_loss(held: AbstractBias) -> None:
    y, v = normal(2, 5, 3).requires_grad_(), normal(2, 5, 3, seed=1)
    (expected,) = torch.autograd.grad(held.loss(y, v).sum(), y)
    assert_near(held.grad(y, v), expected)
    assert_near(AbstractBias.grad(held, y, v), expected)


@pytest.mark.parametrize("held", BIASES, ids=named)
def test_a_bias_never_mixes_tokens(held: AbstractBias) -> None:
    y, v = normal(2, 5, 3), normal(2, 5, 3, seed=1)
    whole, alone = held.loss(y, v), held.loss(y[:, 3:4], v[:, 3:4])
    assert torch.equal(whole[:, 3:4], alone)


@pytest.mark.parametrize("held", [held for held in BIASES if isinstance(held, AbstractAffineBias)], ids=named)
def test_an_affine_bias_has_the_slope_and_pull_it_names(held: AbstractAffineBias) -> None:
    y, v = normal(4, 3), normal(4, 3, seed=1)
    assert_near(held.grad(y, v), held.slope * y - held.pull * v)


@pytest.mark.parametrize("held", [held for held in BIASES if not isinstance(held, bias.Dot)], ids=named)
def test_a_distance_is_least_at_its_target_and_smooth_there_to_the_second_derivative(held: AbstractBias) -> None:
    v = normal(4, 3)
    least = held.radius**2 / 2 if isinstance(held, bias.ShiftRobust) else 0.0
    assert_near(held.loss(v, v), torch.full((4,), least, dtype=torch.float64))
    assert not held.grad(v, v).any()
    y = v.clone().requires_grad_()
    slope = torch.func.grad(lambda y: held.loss(y, v).sum())(y)
    assert not slope.any()
    for first in (slope, held.grad(y, v)):
        (second,) = torch.autograd.grad(first.sum(), y)
        assert second.isfinite().all()
    assert (held.loss(v + normal(4, 3, seed=1), v) > least).all()


# ---- learner


def _steps(how: AbstractLearner, n: int, seed: int) -> Step:
    mix = normal(3, n, how.mixed, seed=seed).softmax(-1) if how.mixed else None
    momentum = unit(3, n, how.moments, seed=seed + 1) if how.moments else None
    scales, keys = unit(3, n, 1, seed=seed + 5) if how.scale_max else None, normal(3, n, 4, 2, seed=seed + 7)
    curvature = keys.transpose(-1, -2) @ keys if how.curved else None
    channels = unit(3, n, 2, seed=seed + 8) if how.channel_max else None
    return Step(momentum=momentum, mix=mix, scales=scales, channels=channels, lr=unit(3, n, seed=seed + 6), curvature=curvature)


def _at(steps: Step, j: int) -> Step:
    return Step(**{name: None if gate is None else gate[:, j] for name, gate in vars(steps).items()})


@pytest.mark.parametrize("how", [how for how in LEARNERS if isinstance(how, AbstractLinearLearner)], ids=named)
@given(n=st.integers(1, 7), seed=st.integers(0, 2**20))
def test_the_response_of_a_linear_learner_is_its_loop(how: AbstractLinearLearner, n: int, seed: int) -> None:
    steps, active = _steps(how, n, seed), (unit(3, n, seed=seed + 2) < 0.7).double()
    updates, moments = normal(3, n, 2, 2, seed=seed + 3), normal(3, how.moments, 2, 2, seed=seed + 4)
    deltas, at = [], tuple({"w": moments[:, k]} for k in range(how.moments))
    for j in range(n):
        update = {"w": updates[:, j]}
        moved = how.accumulate(at, update, _at(steps, j))
        happens = active[:, j, None, None] > 0
        deltas.append(torch.where(happens, how.expose(moved, update, _at(steps, j))["w"], 0.0))
        at = tuple({"w": torch.where(happens, new["w"], old["w"])} for new, old in zip(moved, at, strict=True))
    scaled = updates if steps.scales is None else updates * steps.scales.unsqueeze(-1)
    response, flat_updates, flat_moments = how.response(steps, active), scaled.flatten(2), moments.flatten(2)
    delta = response.delta_from_updates @ flat_updates + response.delta_from_moments @ flat_moments
    assert_near(delta, torch.stack(deltas, dim=1).flatten(2), what="delta")
    if how.moments:
        after = response.moments_from_updates @ flat_updates + response.moments_from_moments @ flat_moments
        assert_near(after, torch.stack([moment["w"] for moment in at], dim=1).flatten(2), what="moments")


@pytest.mark.parametrize("how", LEARNERS, ids=named)
def test_nothing_comes_from_nothing(how: AbstractLearner) -> None:
    zero, step = {"w": torch.zeros(3, 2, 2, dtype=torch.float64)}, _at(_steps(how, 1, 0), 0)
    moments = how.accumulate(how.start(zero), zero, step)
    assert not how.expose(moments, zero, step)["w"].any()
    assert len(moments) == how.moments
    assert how.curved or not any(bool(moment["w"].any()) for moment in moments)


@pytest.mark.parametrize("how", LEARNERS, ids=named)
def test_a_first_step_goes_against_the_gradient(how: AbstractLearner) -> None:
    zero, update, step = {"w": torch.zeros(3, 2, 2, dtype=torch.float64)}, {"w": normal(3, 2, 2)}, _at(_steps(how, 1, 0), 0)
    delta = how.expose(how.accumulate(how.start(zero), update, step), update, step)
    assert bool(((delta["w"] * update["w"]).sum((1, 2)) < 0).all())
    if isinstance(how, (learner.Gradient, learner.Momentum)):
        assert_near(delta["w"], -update["w"])


@pytest.mark.parametrize("how", [how for how in LEARNERS if how.moments], ids=named)
def test_a_learner_asks_for_its_gates(how: AbstractLearner) -> None:
    zero = {"w": torch.zeros(3, 2, 2)}
    with pytest.raises(ValueError, match=rf"needs a `momentum` gate with {how.moments} entries, got none"):
        how.accumulate(how.start(zero), zero, Step(scales=torch.ones(3, 1), channels=torch.ones(3, 2), lr=torch.ones(3)))
    if how.mixed:
        with pytest.raises(ValueError, match=rf"needs a `mix` gate with {how.mixed} entries, got \[3, 9\]"):
            how.expose((zero,) * how.moments, zero, Step(mix=torch.zeros(3, 9), scales=torch.ones(3, 1), channels=torch.ones(3, 2), lr=torch.ones(3)))


def test_channels_are_those_of_the_keys_where_both_sides_are_as_wide() -> None:
    """A row of a square for each channel; a column where rows are as many as something else, and a gain's own numbers."""
    weights = {"square": normal(3, 2, 2), "out": normal(3, 5, 2), "gain": normal(3, 2)}
    c = unit(3, 2, seed=1)
    expected = {"square": c[:, :, None] * weights["square"], "out": c[:, None, :] * weights["out"], "gain": c * weights["gain"]}
    kept = [gate.keep(weights, Step(retain=c)) for gate in (retention.ChannelDecay(), retention.PerChannel())]
    learnt = each(torch.neg, learner.PerChannel(inner=learner.Gradient()).expose((), weights, Step(channels=c)))
    for found in (*kept, learnt):
        for name, value in expected.items():
            assert torch.equal(found[name], value)


# ---- structure


def _net(net: AbstractStructure, heads: int = 4) -> tuple[dict[str, Tensor], Tensor]:
    weights = net.init(heads, 3, 3, torch.Generator().manual_seed(0))
    return {name: w.double() + 0.3 * normal(*w.shape, seed=7) for name, w in weights.items()}, normal(heads, 5, 3, seed=1)


class _Plainest(AbstractReader):
    """The vocabulary, one token and one memory at a time."""

    def __init__(self, params: Params) -> None:
        self.params = params

    def linear(self, name: str, x: Tensor) -> Tensor:
        return torch.einsum("...i,io->...o", x, self.params[name])

    def scale(self, name: str, x: Tensor) -> Tensor:
        return x * self.params[name]

    def shift(self, name: str, x: Tensor) -> Tensor:
        return x + self.params[name]


@pytest.mark.parametrize("net", STRUCTURES, ids=named)
def test_a_read_is_pure_and_mixes_no_memories_and_tokens_only_with_those_before_them_if_it_says_so(net: AbstractStructure) -> None:
    weights, x = _net(net)
    before = {name: w.clone() for name, w in weights.items()}
    y = net.read(Plain(weights), x)
    assert torch.equal(y, net.read(Plain(weights), x))
    assert all(torch.equal(weights[name], w) for name, w in before.items())
    for head in range(4):
        for t in range(5):
            own = {name: w[head] for name, w in weights.items()}
            first = 0 if net.company(weights) else t
            alone = net.read(_Plainest(own), x[head, t]) if net.factored else net.read(Plain(own), x[head, first : t + 1])[-1]
            assert_near(y[head, t], alone)


@pytest.mark.parametrize("net", [net for net in STRUCTURES if net.company(net.init(1, 3, 3))], ids=named)
def test_tokens_that_are_not_seen_are_as_if_they_were_not_there(net: AbstractStructure) -> None:
    weights, x = _net(net)
    seen = torch.tensor([True, False, True, False, True])
    y = net.read(Plain(weights, seen), x)
    assert_near(y[:, seen], net.read(Plain(weights), x[:, seen]))
    assert_near(y[:, 3], net.read(Plain(weights), x[:, [0, 2, 3]])[:, -1])
    assert (net.read(Plain(weights), x)[:, 2] - y[:, 2]).abs().max() > 1e-3


@pytest.mark.parametrize("net", STRUCTURES, ids=named)
def test_a_structure_begins_the_same_for_the_same_seed_and_has_a_weight_for_each_head(net: AbstractStructure) -> None:
    first, again, other = (net.init(2, 3, 3, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert all(w.shape[0] == 2 and torch.equal(w, again[name]) for name, w in first.items())
    random = [name for name, w in first.items() if not torch.equal(w, other[name])]
    assert bool(random) != (isinstance(net, structure.Module) or all(not bool(w.any()) for w in first.values()))


@pytest.mark.parametrize("net", [net for net in STRUCTURES if net.factored], ids=named)
def test_weights_that_were_never_written_out_read_like_those_that_were(net: AbstractStructure) -> None:
    """The factors of a gradient multiply out to it, and the dual reader reads a mix of states and gradients."""
    weights, x = _net(net)
    k, v, q = normal(4, 6, 3, seed=2), normal(4, 6, 3, seed=3), x
    rule = replace(presets.titans(), structure=net)
    factors, loss = capture(rule, weights, k, v)
    leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
    per_token = rule.bias.loss(net.read(Plain(leaves), k), v)
    assert_near(loss, per_token, what="loss")
    gradients = [
        dict(zip(leaves, torch.autograd.grad(per_token[:, c].sum(), list(leaves.values()), retain_graph=True), strict=True)) for c in range(6)
    ]
    written = {
        name: torch.stack([parts[0][:, c] if len(parts) == 1 else parts[0][:, c, :, None] * parts[1][:, c, None, :] for c in range(6)])
        for name, parts in factors.items()
    }
    for name, value in written.items():
        assert_near(value, torch.stack([g[name] for g in gradients]), GRADIENTS, f"gradient of {name}")
    states = [weights, {name: normal(*w.shape, seed=5) for name, w in weights.items()}]
    of_states, of_cells = normal(4, 5, 2, seed=6), normal(4, 5, 6, seed=8)
    y = net.read(DualReader(states, factors, of_states, of_cells), q)
    for t in range(5):
        mixed = {
            name: sum(_by_head(of_states[:, t, m], s[name]) for m, s in enumerate(states))
            + sum(_by_head(of_cells[:, t, c], written[name][c]) for c in range(6))
            for name in weights
        }
        assert_near(y[:, t : t + 1], net.read(Plain(mixed), q[:, t : t + 1]))


def _by_head(share: Tensor, w: Tensor) -> Tensor:
    return share.reshape(-1, *(1,) * (w.ndim - 1)) * w


@pytest.mark.parametrize("net", [net for net in STRUCTURES if isinstance(net, AbstractMatrix)], ids=named)
def test_a_matrix_is_linear_in_its_weights_and_its_input(net: AbstractMatrix) -> None:
    w, u, x, z = (normal(2, *shape, seed=seed) for seed, shape in enumerate([(3, 4), (3, 4), (5, 3), (5, 3)]))
    read = lambda weight, at: net.read(Plain({net.weight: weight}), at)  # noqa: E731
    assert_near(read(2 * w - u, x), 2 * read(w, x) - read(u, x))
    assert_near(read(w, 2 * x - z), 2 * read(w, x) - read(w, z))
    assert_near(read(w, x), x @ w)


# ---- refusals


def _kept(gate: AbstractRetention) -> MemoryRule:
    return replace(presets.titans(), retention=gate)


@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (lambda: bias.L2(scale=0.0), r"L2\.scale must be positive, got 0\.0"),
        (lambda: structure.MLP(depth=5), r"must be 1 to 4"),
        (lambda: structure.MLP(expansion=0.0), r"expansion must be positive"),
        (lambda: structure.GatedMLP(expansion=-1.0), r"expansion must be positive"),
        (lambda: learner.Momentum(order=0), r"Use learner\.Gradient\(\)"),
        (lambda: structure.NormResidual().init(1, 3, 4), r"equally wide, got 3 and 4"),
        (lambda: retention.ChannelDecay().keep({"w": torch.ones(1, 2, 5)}, Step(retain=torch.ones(1, 3))), r"or retention\.Decay\(\)"),
        (lambda: learner.PerChannel(most=0.0), r"learner\.PerChannel\.most must be positive, got 0\.0"),
        (lambda: learner.PerChannel().expose((), {"w": torch.ones(1, 2)}, Step()), r"needs a `channels` gate with each token, got None"),
        (
            lambda: learner.PerChannel().expose((), {"w": torch.ones(1, 2, 5)}, Step(channels=torch.ones(1, 3))),
            r"learner\.PerChannel has 3 channels, but the weight 'w' of one head has shape \[2, 5\], .* or the learner inside by itself\.",
        ),
        (
            lambda: retention.PerChannel().keep({"w": torch.ones(1, 5)}, Step(retain=torch.ones(1, 3))),
            r"retention\.PerChannel has 3 channels, but the weight 'w' of one head has shape \[5\], .* or the gate inside by itself\.",
        ),
        (lambda: _kept(retention.PerChannel(inner=retention.Decay())), r"with a number for each channel that is retention\.ChannelDecay\(\)"),
        (lambda: _kept(retention.PerChannel(inner=retention.Boundary())), r"at every token, got Boundary\. Give it the gate inside Boundary"),
        (lambda: _kept(retention.PerChannel(inner=retention.Bregman())), r"such as Lq\(\) or KL\(\); got Bregman\. Use it as it is"),
        (lambda: _kept(retention.PerChannel(inner=retention.ElasticNet())), r"such as Lq\(\) or KL\(\); got ElasticNet"),
        (lambda: _kept(retention.PerChannel(inner=retention.PerChannel())), r"such as Lq\(\) or KL\(\); got PerChannel"),
        (lambda: _kept(retention.Boundary(inner=retention.PerChannel())), r"needs a gate that multiplies .* by one number .* PerChannel does more"),
        (lambda: presets.moneta(exposed="boundary", gates="channel"), r"exposed='boundary' needs gates='head'.* Use exposed='token'"),
        (lambda: presets.memora(exposed="boundary", gates="channel"), r"exposed='boundary' needs gates='head'"),
        (lambda: replace(presets.titans(), bias=bias.Transposed()), r"one matrix, got NormResidual\. Use structure\.Matrix\(\)"),
        (lambda: replace(presets.titans(), bias=bias.Omega(inner=bias.Transposed())), r"Transposed needs a memory that is one matrix"),
        (lambda: bias.Transposed(inner=bias.Omega()), r"Omega with a window of 4\. Put Transposed into Omega"),
        (lambda: bias.Transposed(inner=bias.Transposed()), r"turned around already"),
        (lambda: bias.Transposed(inner=bias.Huber(kind="coordinate", scaled="by channel")), r"thresholds of Huber .* Use one by token"),
        (lambda: replace(presets.mesa(), bias=bias.Transposed()), r"LeastSquares needs a memory that is one matrix, got BothWays"),
        (lambda: replace(presets.titans(), step_every=0), r"step_every counts tokens"),
        (lambda: replace(presets.titans(), update_every=0), r"None anchors the gradients for ever"),
        (lambda: replace(presets.titans(), update_every=6, step_every=4), r"step_every must divide update_every, got 4 and 6"),
        (lambda: replace(presets.titans(), retention=retention.Decay(grad_at="decayed")), r"Use grad_at='previous'"),
        (lambda: replace(presets.titans(), retention=retention.ChannelDecay(grad_at="decayed")), r"Use grad_at='previous'"),
    ],
)
def test_misuse_is_refused_with_its_cure(make: object, cure: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=cure):
        make()


def test_a_rule_is_a_value() -> None:
    assert presets.titans() == presets.titans()
    assert hash(presets.titans()) == hash(presets.titans())
    assert presets.titans() != presets.titans(depth=1)
    assert isinstance(presets.titans(), MemoryRule)
