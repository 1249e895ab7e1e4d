"""Faults that harm equations of Nested Learning's optimizers."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

import torch

from retain.optim import (
    M3,
    AdamAsMemory,
    DeepMomentum,
    DeltaMomentum,
    FeatureMapMomentum,
    GradientDescent,
    LearnedPreconditioner,
    Momentum,
    PreconditionedMomentum,
    adam_as_memory,
    deep_momentum,
    delta_gradient_descent,
    m3,
    matrix_adagrad,
    muon,
    orthogonal,
)
from tests.paper import test_nested_descent as descent
from tests.paper import test_nested_momentum as momentum
from tests.paper import test_nested_preconditioned as preconditioned
from tests.paper.faults import Fault, Function, always, nested, times


def with_options(**others: Any) -> Any:
    """A step whose options are others than those that it is given."""

    def wrong(right: Function) -> Function:
        def advance(cls: Any, weight: Any, gradient: Any, state: Any, options: Any, lead: int = 0) -> Any:
            return right.__func__(cls, weight, gradient, state, {**options, **others}, lead)

        return classmethod(advance)

    return wrong


def uphill(right: Function) -> Function:
    def advance(cls: Any, weight: Any, gradient: Any, state: Any, options: Any, lead: int = 0) -> Any:
        return right.__func__(cls, weight, -gradient, state, options, lead)

    return classmethod(advance)


def uphill_in_place(right: Function) -> Function:
    return classmethod(lambda cls, weights, gradients, states, options: right.__func__(cls, weights, [-g for g in gradients], states, options))


def in_place(**others: Any) -> Any:
    """A step of a list of weights whose options are others."""

    def wrong(right: Function) -> Function:
        return classmethod(lambda cls, weights, gradients, states, options: right.__func__(cls, weights, gradients, states, {**options, **others}))

    return wrong


def forgets_what_it_learnt(right: Function) -> Function:
    """A deep momentum with no memory in it."""

    def advance(cls: Any, weight: Any, gradient: Any, state: Any, options: Any, lead: int = 0) -> Any:
        after, new = right.__func__(cls, weight, gradient, state, options, lead)
        return after, {name: torch.zeros_like(part) if name.startswith("learnt") else part for name, part in new.items()}

    return classmethod(advance)


def never_slow(right: Function) -> Function:
    return staticmethod(lambda state, *rest: {})


FAULTS = (
    Fault(
        "descent climbs",
        GradientDescent,
        "advance_all",
        uphill_in_place,
        nested(1, 2, 8, 9, 29, 30, 31, 32, 54, 55, 58, 112),
        (
            descent.test_descent_minimises_the_linearised_loss_near_where_it_was,
            descent.test_descent_writes_the_surprise_at_the_output_under_the_input,
            descent.test_backpropagation_writes_each_layers_surprise_under_its_input,
            descent.test_what_is_written_is_what_the_weights_themselves_say,
        ),
    ),
    Fault(
        "a step of descent is half as long",
        GradientDescent,
        "advance",
        lambda right: classmethod(lambda cls, w, g, *rest: right.__func__(cls, w, g / 2, *rest)),
        nested(3, 59, 60, 98),
        (
            descent.test_descent_follows_the_leader_of_all_gradients,
            descent.test_an_objective_and_a_retention_make_a_step,
            descent.test_an_implicit_step_minimises_the_whole_loss_near_where_it_was,
        ),
    ),
    Fault(
        "inputs are not unlearnt",
        delta_gradient_descent,
        "_unlearnt",
        always(lambda w, x, lr: w),
        nested(29, 56, 57, 59, 60, 98, 99, 113, 114, 115, 116, 117, 118, 119, 120, 121),
        (
            descent.test_every_layer_learns_by_the_delta_rule_from_its_own_input,
            descent.test_the_delta_step_minimises_the_squared_error_to_the_surprise,
            partial(descent.test_a_batch_is_solved_exactly, 2),
            partial(descent.test_a_batch_is_solved_exactly, 8),
            descent.test_the_delta_rule_comes_to_rest_half_way,
            descent.test_an_objective_and_a_retention_make_a_step,
            descent.test_an_implicit_step_minimises_the_whole_loss_near_where_it_was,
            descent.test_the_derivation_of_the_delta_step_line_by_line,
        ),
    ),
    Fault(
        "the rate of the delta rule knows no length of the input",
        delta_gradient_descent,
        "_unlearnt",
        lambda right: lambda w, x, lr: right(w, torch.nn.functional.normalize(x, dim=-1), lr),
        nested(57, 121, 114, 115, 116, 117, 118, 119, 120),
        (descent.test_the_delta_step_minimises_the_squared_error_to_the_surprise, descent.test_the_derivation_of_the_delta_step_line_by_line),
    ),
    Fault(
        "momentum never decays",
        Momentum,
        "advance",
        with_options(alpha=1.0),
        nested(34, 45),
        (momentum.test_decay_is_a_penalty_on_the_memory, momentum.test_a_momentum_forgets_what_is_orthogonal_to_what_comes),
    ),
    Fault(
        "momentum decays by a number of its own",
        Momentum,
        "advance_all",
        in_place(alpha=0.95),
        nested(10, 11, 12, 33, 35, 100),
        (momentum.test_momentum_without_decay_sums_gradients, momentum.test_momentum_is_that_of_torch),
    ),
    Fault(
        "momentum turns its back on gradients",
        Momentum,
        "advance",
        uphill,
        nested(13, 37),
        (momentum.test_momentum_is_a_memory_that_moves_towards_a_gradient, momentum.test_an_objective_of_its_own_moves_the_memory),
    ),
    Fault(
        "the ledger has no empty number",
        momentum,
        "entries",
        always(list),
        nested(36),
        (momentum.test_the_entry_of_the_number_without_a_formula_says_so,),
    ),
    Fault(
        "values are left out",
        PreconditionedMomentum,
        "advance",
        with_options(precondition=lambda gradient: gradient),
        nested(46, 47),
        (momentum.test_a_value_is_bound_to_a_gradient, momentum.test_with_a_second_moment_it_is_rmsprop),
    ),
    Fault(
        "a delta momentum has the momentum's decay alone",
        DeltaMomentum,
        "advance",
        with_options(decay_lr=0.0),
        nested(37, 45, 48, 49, 53),
        (
            momentum.test_delta_momentum_descends_the_squared_error,
            momentum.test_decay_may_be_elementwise_or_of_the_whole_and_gradients_bounded,
            momentum.test_an_objective_of_its_own_moves_the_memory,
            momentum.test_a_momentum_forgets_what_is_orthogonal_to_what_comes,
            momentum.test_the_delta_rule_needs_fewer_steps_in_a_curved_valley,
        ),
    ),
    Fault(
        "a deep momentum has no memory in it",
        DeepMomentum,
        "advance",
        forgets_what_it_learnt,
        nested(37, 50, 52),
        (
            momentum.test_a_deep_momentum_is_a_network_that_learns_from_each_gradient,
            partial(momentum.test_the_inner_gradient_is_that_of_the_inner_objective, "l2", False),
            momentum.test_memories_that_say_little_are_momentum,
            momentum.test_what_a_memory_says_may_be_made_orthogonal_or_a_sign,
        ),
    ),
    Fault(
        "a gradient is its own feature",
        FeatureMapMomentum,
        "advance",
        with_options(power=1.0, features=None),
        nested(51),
        (momentum.test_features_of_a_gradient_are_remembered,),
    ),
    Fault(
        "what a memory says is never made orthogonal",
        deep_momentum,
        "direction",
        always(lambda x, how, usual, lead: x),
        nested(52),
        (momentum.test_what_a_memory_says_may_be_made_orthogonal_or_a_sign,),
    ),
    Fault(
        "a gradient is multiplied by its preconditioner's inverse twice",
        LearnedPreconditioner,
        "advance",
        with_options(eps=1.0),
        nested(38, 39),
        (preconditioned.test_the_hessian_solves_a_quadratic_in_one_step,),
    ),
    Fault(
        "a preconditioner does not learn",
        LearnedPreconditioner,
        "advance",
        with_options(rate=0.0),
        nested(40, 41),
        (preconditioned.test_a_preconditioner_descends_its_own_loss, preconditioned.test_by_themselves_preconditioners_learn_sizes),
    ),
    Fault(
        "Muon makes nothing orthogonal",
        muon,
        "direction",
        always(lambda x, how, usual, lead: x),
        nested(42, 43),
        (
            preconditioned.test_muon_is_momentum_made_orthogonal,
            partial(preconditioned.test_as_many_steps_are_taken_as_small_singular_values_need, "cubic", (16, 64)),
        ),
    ),
    Fault(
        "three steps of Newton and Schulz",
        orthogonal,
        "newton_schulz",
        lambda right: lambda x, steps, kind: right(x, 3, kind),
        nested(42, 43, 75),
        (
            preconditioned.test_muon_is_momentum_made_orthogonal,
            partial(preconditioned.test_as_many_steps_are_taken_as_small_singular_values_need, "quintic", (16, 64)),
            preconditioned.test_m3_is_algorithm_1,
        ),
    ),
    Fault(
        "the cubic iteration has another cube",
        import_module("retain.numerics.newton_schulz"),  # whose name in its room is the function's
        "_COEFFICIENTS",
        lambda right: {**right, "cubic": (1.5, -0.4, 0.0)},
        nested(43, 44),
        (preconditioned.test_newton_and_schulz_descend_the_distance_to_an_orthogonal_matrix,),
    ),
    Fault(
        "the slow memory of M3 never moves",
        M3,
        "_moved",
        never_slow,
        nested(75),
        (preconditioned.test_m3_is_algorithm_1, partial(preconditioned.test_the_averages_of_m3, "norm")),
    ),
    Fault(
        "averages of M3 are sums",
        m3,
        "accumulate_all",
        lambda right: lambda kept, new, beta, how: right(kept, new, beta, "sum"),
        nested(75),
        (preconditioned.test_the_momentum_of_m3_fades_and_only_sums_do_not, partial(preconditioned.test_the_averages_of_m3, "norm")),
    ),
    Fault(
        "the ridge is left out",
        AdamAsMemory,
        "advance",
        with_options(ridge=0.0),
        nested(101, 102),
        (preconditioned.test_adam_is_the_best_elementwise_memory_of_gradients,),
    ),
    Fault(
        "a memory of gradients climbs",
        AdamAsMemory,
        "advance",
        uphill,
        nested(103, 104),
        (preconditioned.test_adam_is_the_best_elementwise_memory_of_gradients, preconditioned.test_the_literal_sums_of_adam),
    ),
    Fault(
        "squares are gradients",
        adam_as_memory,
        "accumulate_squares_of_all",
        always(lambda kept, new, beta, how: torch._foreach_add_(kept, torch._foreach_abs(new), alpha=beta)),  # pyright: ignore[reportPrivateImportUsage]
        nested(105),
        (preconditioned.test_the_literal_sums_of_adam, preconditioned.test_adam_adagrad_rmsprop_and_signs_are_in_it),
    ),
    Fault(
        "matrix moments know nothing of the past",
        matrix_adagrad,
        "moment",
        lambda right: lambda kept, new, beta, how, steps: right(torch.zeros_like(kept), new, beta, how, steps),
        nested(106, 107, 108, 109, 110, 111),
        (
            preconditioned.test_the_moments_of_matrix_adagrad_are_those_of_the_best_matrix_memory,
            preconditioned.test_matrix_adagrad_divides_by_the_root_of_its_moment,
        ),
    ),
    Fault(
        "an inverse root is twice as large",
        matrix_adagrad,
        "inverse_root",
        times(2.0),
        nested(111),
        (
            preconditioned.test_matrix_adagrad_divides_by_the_root_of_its_moment,
            preconditioned.test_diagonal_gradients_make_matrix_adagrad_adagrad,
        ),
    ),
)
