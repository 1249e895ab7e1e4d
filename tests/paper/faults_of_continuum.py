"""Faults that harm the equations of continuum memories."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from retain.layers import ContinuumMemory, continuum
from retain.layers.level import LevelMLP
from tests.paper import test_nested_continuum as nested
from tests.paper.faults import Fault, Function, always


def _equations(*numbers: int) -> tuple[tuple[str, int], ...]:
    return tuple(("nested_learning", number) for number in numbers)


def _last_first(right: Function) -> Function:
    """The levels are passed in the opposite order."""

    def forward(self: Any, x: Tensor, state: Any = None) -> Tensor:
        if self.mix is not None:
            return right(self, x, state)
        for i in reversed(range(len(self.levels))):
            y = self.blocks[i](x, continuum.under(state or {}, f"{i}/"))
            x = x + y if self.levels[i].around == "residual" else y
        return x

    return forward


def _keeps_its_sums(right: Function) -> Function:
    """What a period has summed up is still there in the next."""
    return lambda self, kept: {**right(self, kept), **{path: part for path, part in kept.items() if path.startswith("sums/")}}


def _newest_alone(self: Any, kept: Any, gradients: Any, rows: Any) -> Any:
    """The sums hold the last call's gradients only."""
    return {**kept, **{f"sums/{name}": gradients[name] for name in self.initial()}}


def _cut_off(right: Function) -> Function:
    """No gradient passes a step."""
    return lambda self, kept: {path: part.detach().requires_grad_(path.startswith("weights/")) for path, part in right(self, kept).items()}


def _through_earlier_steps(right: Function) -> Function:
    """A gradient counts what other levels have learnt from the same weights, too."""

    def learn(self: Any, state: Any, gradients: Any, tokens: Any) -> Any:
        after = right(self, state, gradients, tokens)
        same = {path for path in self.weights(after) if after[path].detach().equal(state[path].detach())}
        return {path: state[path] if path in same else part for path, part in after.items()}

    return learn


def _never_anew(right: Function) -> Function:
    def start(self: Any, *args: Any, **named: Any) -> None:
        right(self, *args, **named)
        self.contexts = {}

    return start


def _mean(right: Function) -> Function:
    """Independent levels have equal weights, whatever is learnt."""

    def forward(self: Any, x: Tensor, state: Any = None) -> Tensor:
        if self.mix is None:
            return right(self, x, state)
        each = [block(x, continuum.under(state or {}, f"{i}/")) for i, block in enumerate(self.blocks)]
        y = sum(each[1:], each[0]) / len(each)
        return (x + y if self.levels[0].around == "residual" else y) + 0 * self.mix.sum()

    return forward


FORMULA, SGD = nested.test_a_level_steps_along_the_errors_of_its_own_period, nested.test_a_level_of_plain_descent_is_sgd_on_the_loss_of_its_chunks

FAULTS = (
    Fault(
        "levels are passed last first",
        ContinuumMemory,
        "forward",
        _last_first,
        _equations(70, 71),
        (partial(nested.test_levels_read_one_after_the_other, "residual"), partial(FORMULA, (2, 6))),
    ),
    Fault(
        "every level is of the lowest frequency",
        ContinuumMemory,
        "frequencies",
        always(property(lambda self: (1,) * len(self.levels))),
        _equations(70),
        (nested.test_a_frequency_is_how_often_a_level_changes_while_the_slowest_does_once,),
    ),
    Fault(
        "a period goes on with the sums of the one before",
        LevelMLP,
        "step",
        _keeps_its_sums,
        _equations(71),
        (partial(FORMULA, (4,)), partial(nested.test_n_tokens_make_n_by_c_updates_and_their_sum, 12, 3), partial(SGD, 5)),
    ),
    Fault(
        "a step knows the last gradients of its period alone",
        LevelMLP,
        "add",
        always(_newest_alone),
        _equations(71),
        (partial(FORMULA, (2, 6)), partial(nested.test_n_tokens_make_n_by_c_updates_and_their_sum, 12, 3)),
    ),
    Fault(
        "a gradient finds its way through the steps of faster levels",
        ContinuumMemory,
        "learn",
        _through_earlier_steps,
        _equations(71, 73),
        (
            partial(FORMULA, (2, 6)),
            nested.test_a_language_model_learns_from_the_tokens_it_predicts,
            nested.test_an_outer_loss_reaches_the_start_of_every_level,
        ),
    ),
    Fault(
        "no level ever starts anew",
        ContinuumMemory,
        "__init__",
        _never_anew,
        _equations(72),
        (
            partial(nested.test_nested_levels_start_anew_when_a_slower_one_has_stepped, (2, 6)),
            nested.test_a_level_of_4_under_one_of_16_starts_anew_at_every_fourth_of_its_steps,
            nested.test_the_start_of_a_level_is_learnt_as_what_serves_all_contexts_best,
        ),
    ),
    Fault(
        "no gradient passes a step",
        LevelMLP,
        "step",
        _cut_off,
        _equations(71, 73),
        (partial(FORMULA, (4,)), nested.test_with_no_rate_the_outer_gradient_is_that_of_plain_layers),
    ),
    Fault(
        "independent levels count the same",
        ContinuumMemory,
        "forward",
        _mean,
        _equations(74),
        (
            partial(nested.test_independent_levels_are_added_up_by_learnt_weights, (2, 6)),
            partial(nested.test_one_weight_is_one_level_and_equal_weights_are_the_mean, "nothing"),
        ),
    ),
)
