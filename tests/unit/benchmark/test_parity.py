"""Both libraries compute the same thing from the same numbers: outputs, gradients, token by token, and in float64."""

import warnings

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the peer's, when it is imported
    pytest.importorskip("titans_pytorch", reason="needs the extra `bench`")

from retain.benchmark import comparison
from retain.benchmark.delta_rule import measure_delta_rule
from retain.benchmark.ours import HALF_OPEN, weights
from retain.benchmark.parity import exact_output_error, gradient_errors, output_error, pair, relative_error
from retain.benchmark.plan import Plan
from retain.benchmark.settings import SETTINGS, Setting

TINY = [
    Setting(name="A", time=24, heads=2, head_dim=4, step_every=1, update_every=8, dim=12),
    Setting(name="B", time=24, heads=2, head_dim=4, step_every=2, update_every=8, dim=12),
    Setting(name="C", time=24, heads=2, head_dim=4, step_every=8, update_every=None, dim=12),
    Setting(name="D", time=24, heads=1, head_dim=12, step_every=8, update_every=None, dim=12),
]
each_setting = pytest.mark.parametrize("setting", TINY, ids=lambda setting: setting.name)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_the_tiny_settings_are_the_settings_made_small() -> None:
    for tiny in TINY:
        large = SETTINGS[tiny.name]
        assert (tiny.step_every == 1) == (large.step_every == 1)
        assert (tiny.update_every is None) == (large.update_every is None)
        assert (tiny.heads > 1) == (large.heads > 1)


@each_setting
def test_outputs_agree(setting: Setting) -> None:
    assert output_error(pair(setting)) < 1e-5
    assert exact_output_error(setting) < 1e-12


@each_setting
def test_gradients_of_all_slow_weights_agree(setting: Setting) -> None:
    errors = gradient_errors(pair(setting, gate=HALF_OPEN))
    assert set(errors) == set(weights(setting)[0])
    assert max(errors.values()) < 1e-4, errors


@pytest.mark.parametrize("name", ["memory.initial.gain", "memory.gates.bias", "norm.weight", "memory.projections.to_k.weight"])
def test_a_parameter_that_was_not_copied_is_found_out(name: str) -> None:
    both = pair(TINY[0], gate=HALF_OPEN)
    with torch.no_grad():
        both.ours.get_parameter(name).mul_(1.1).add_(0.1)
    assert output_error(both) > 1e-4


def test_what_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "output_error", lambda both: 0.5)
    monkeypatch.setattr(comparison, "apart", lambda measure, *given, watch: measure(*given, watch))
    monkeypatch.setattr(comparison, "_measured", lambda *_: pytest.fail("timed although the outputs differ"))
    plan = comparison.Plan(repeats=5)
    rows = list(comparison._rows(TINY[3], plan, lambda done, note: None))
    assert [(row["agree"], "ours" in row) for row in rows] == [(False, False)] * 2


def test_relative_error_refuses_what_is_not_finite() -> None:
    assert relative_error(torch.tensor([float("nan")]), torch.ones(1)) == float("inf")
    assert relative_error(torch.ones(2), torch.ones(1)) == float("inf")


@pytest.mark.parametrize("setting", [TINY[0], TINY[3]], ids=lambda setting: setting.name)
def test_token_by_token_agrees(setting: Setting) -> None:
    both = pair(setting)
    states = [None, None]
    for token in both.x.split(1, dim=1):
        with torch.no_grad():
            (y, states[0]), (expected, states[1]) = (layer(token, state=state) for layer, state in zip((both.ours, both.peer), states, strict=True))
        assert relative_error(y, expected) < 1e-5


def test_the_delta_rule_agrees_with_the_ruler_before_it_is_timed() -> None:
    found = measure_delta_rule(Plan(parts=("delta",), repeats=1, quick=True), lambda done, note: None)
    assert [row["rule"] for row in found["rows"]] == ["delta rule", "gated delta rule"]
    assert all(row["agree"] and row["max_rel_error"] < 1e-5 for row in found["rows"])
