"""Faults that harm Nested Learning's equations of associations, attention and nested systems."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from retain import MemoryRule, MemoryState, bias, learner, presets, retention
from retain.core import spread
from retain.core.trees import each
from retain.layers import window
from retain.layers.projections import ProjectionMap
from retain.memory.learner.gradient import Gradient
from retain.optim import GradientDescent
from tests.paper import test_nested_associations as memories
from tests.paper import test_nested_attention as attention
from tests.paper import test_nested_systems as systems
from tests.paper.faults import Fault, Function, a_property, always, nested, shorter, times

TAIL = partial(attention.test_a_linear_memory_behind_attention_shares_its_keys_and_values, True)
ALONE = partial(memories.test_a_memory_alone_is_a_nested_system_whose_step_goes_down, *memories._OUTPUT_SLOPES[0])
OMEGA = partial(memories.test_the_omega_rule_takes_the_gradients_of_its_window_where_the_memory_stood, 3, bias.L2())
WINDOW = partial(attention.test_attention_over_a_window_is_that_of_its_tokens, 3)
OJA = memories.test_ojas_rule_writes_what_the_value_does_not_say_of_the_key_yet
HEBB = memories.test_the_hebbian_rule_writes_whatever_is_known


def _climbing(right: Function) -> Function:
    return staticmethod(lambda weights, gradients, states, options: right(weights, [-gradient for gradient in gradients], states, options))


def _cut_off(right: Function) -> Function:
    return lambda rule, initial, batch: right(rule, each(torch.Tensor.detach, initial), batch)


def _of_no_account(right: Function) -> Function:
    """The tokens before a token's own count for nothing."""

    def spread_out(rule: MemoryRule, *args: Function) -> Function:
        tokens, state = right(rule, *args)
        own = torch.arange(tokens.lr.shape[-1]) < tokens.lr.shape[-1] // rule.bias.window
        return replace(tokens, share=tokens.share * own), state

    return spread_out


def _reading_louder(right: Function) -> Function:
    def forward(*args: Function) -> Function:
        q, *rest = right(*args)
        return 2 * q, *rest

    return forward


FAULTS = (
    Fault(
        "the dot product writes its value twice",
        bias.Dot,
        "grad",
        times(2.0),
        nested(5, 15, 17, 18, 64),
        (
            memories.test_fast_weights_decay_and_are_read_through_features,
            memories.test_linear_attention_reads_all_tokens_up_to_its_own,
            memories.test_a_hebbian_write_is_least_and_is_a_gradient_step_of_size_one,
            HEBB,
        ),
    ),
    Fault(
        "what the memory knows already is written again",
        bias.L2,
        "grad",
        always(lambda self, y, v: -v),
        nested(4, 20, 65, 68),
        (
            systems.test_the_start_that_is_best_for_all_tasks_is_learnt_through_the_inner_step,
            ALONE,
            memories.test_the_delta_rule_writes_what_is_missing,
            OMEGA,
        ),
    ),
    Fault(
        "nothing is let go",
        retention.Decay,
        "keep",
        always(lambda self, accumulator, step: accumulator),
        nested(5, 64, 66, 67),
        (memories.test_fast_weights_decay_and_are_read_through_features, HEBB, OJA),
    ),
    Fault("the way back is the way there", bias.Transposed, "transposed", a_property(lambda self: False), nested(66, 67), (OJA,)),
    Fault(
        "an implicit step of the way back is as long as an explicit one",
        learner.Implicit,
        "effective",
        always(lambda self, lr, k, bias: lr),
        nested(67),
        (memories.test_an_implicit_step_of_ojas_objective_ends_where_its_gradient_is_taken,),
    ),
    Fault("a window holds its last token alone", spread, "_with_those_before", _of_no_account, nested(68), (OMEGA,)),
    Fault(
        "queries are twice as long",
        ProjectionMap,
        "forward",
        _reading_louder,
        nested(14, 21, 24, 25, 26, 61, 69),
        (
            memories.test_projections_are_linear_maps_that_the_memory_leaves_alone_and_the_outer_loss_does_not,
            TAIL,
            systems.test_transfer_by_parameters_reads_at_the_weights_of_another_level,
            systems.test_transfer_by_output_makes_one_level_the_context_of_the_other,
            systems.test_a_fast_memory_is_asked_by_a_slow_projection,
            attention.test_a_tail_that_writes_nothing_is_the_linear_map_it_began_as_and_any_split_is_one_call,
        ),
    ),
    Fault(
        "attention sharpens",
        window,
        "attend",
        lambda right: lambda q, k, v, mask: right(2 * q, k, v, mask),
        nested(27, 62, 63, 69),
        (
            systems.test_transfer_without_parameters_is_attention_to_the_context,
            attention.test_softmax_attention_is_the_best_constant_for_each_query,
            WINDOW,
            TAIL,
        ),
    ),
    Fault(
        "a window begins one token late",
        window,
        "attend",
        lambda right: lambda q, k, v, mask: right(q, k, v, shorter(mask)),
        nested(63),
        (WINDOW,),
    ),
    Fault(
        "exact solutions are gradient steps",
        learner.LeastSquares,
        "expose",
        lambda right: lambda self, moments, update, step: Gradient().expose((), update, step),
        nested(6),
        (systems.test_the_best_linear_memory_of_keys_and_values_is_the_pseudoinverse,),
    ),
    Fault(
        "an optimizer climbs",
        GradientDescent,
        "advance_all",
        _climbing,
        nested(7, 19, 22, 23),
        (
            systems.test_descent_on_all_data_ends_at_their_least_squares,
            systems.test_a_step_of_descent_is_least_around_the_weights_for_a_loss_that_falls,
            systems.test_descent_sample_by_sample_comes_near_the_least_risk,
            systems.test_a_memory_inside_an_optimizer_is_a_nested_system_of_two_levels,
        ),
    ),
    Fault(
        "the start of a memory is a constant",
        MemoryState,
        "start",
        _cut_off,
        nested(4, 21, 28),
        (
            systems.test_the_start_that_is_best_for_all_tasks_is_learnt_through_the_inner_step,
            systems.test_the_initial_memory_learns_through_every_write,
            TAIL,
        ),
    ),
    Fault(
        "tokens read before they write",
        presets,
        "linear_attention",
        lambda right: lambda: replace(right(), reads="before"),
        nested(16, 21, 26, 69),
        (
            memories.test_linear_attention_reads_all_tokens_up_to_its_own,
            TAIL,
            systems.test_a_fast_memory_is_asked_by_a_slow_projection,
        ),
    ),
)
