"""Faults that harm equations of Nested Learning's section 8, self-modifying Titans."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from retain.layers import Rates, SelfModifyingRule
from retain.layers.self_modifying import chunks
from retain.layers.self_modifying import memory as layer
from retain.layers.self_modifying.bank import Bank
from retain.memory.structure import Matrix, ResidualMLP
from retain.numerics import rank_one
from tests.paper import test_nested_self_modifying as tests
from tests.paper.faults import Fault, Function, a_property, always, nested, times

OWN = partial(tests.test_memories_hold_values_of_their_own, Matrix(), "still")
DEEP = partial(tests.test_memories_hold_values_of_their_own, ResidualMLP(), "still")
SHARED = partial(tests.test_memories_that_make_everything_and_hold_one_value, Matrix())
CHUNKS = partial(tests.test_everything_is_made_at_the_last_boundary, Matrix(), 4, 4)
CLOCKS = partial(tests.test_everything_is_made_at_the_last_boundary, Matrix(), 4, 2)
DOT, SQUARE = (
    partial(test, 4) for test in (tests.test_a_matrix_that_descends_on_the_dot_product, tests.test_a_matrix_that_descends_on_half_the_squared_error)
)
STILL = tests.test_projections_that_stand_still_and_a_matrix_are_the_gated_delta_rule


def _forgets_nothing(right: Function) -> Function:
    def of(rates: Tensor, keeps: Tensor | None, lingers: Tensor | None = None, active: Tensor | None = None) -> Any:
        return right(rates, None, lingers, active)

    return of


def one_value(right: Function) -> Function:
    """Every memory's own value is the shared one."""

    def errors(rule: SelfModifyingRule, answer: Tensor, target: Tensor) -> Tensor:
        return right(rule, answer, target.mean(dim=1, keepdim=True).expand_as(target))

    return errors


def _ascends(right: Function) -> Function:
    return lambda rule, answer, target: right(rule, answer, target) * (-1.0 if rule.objective == "dot" else 1.0)


def written_first(right: Function) -> Function:
    """A token is read behind its own chunk."""

    def answers(circuit: Any, weights: list[Any], queries: list[Tensor]) -> Tensor:
        return right(circuit, [*weights[1:], weights[-1]], queries)

    return answers


def _at_the_newest(right: Function) -> Function:
    return lambda circuit, bank, tokens, anchor, moved: right(circuit, bank, tokens, moved[0], moved)


def _at_the_start(right: Function) -> Function:
    """Reading alone is of memories that hold nothing."""
    return lambda circuit, views, weights: right(circuit, views, {name: 0 * w for name, w in weights.items()})


def _no_identity(right: Function) -> Function:
    def read(self: Bank, weights: Any, x: Tensor, stop: int) -> Any:
        z, hidden, answers = right(self, weights, x, stop)
        if z is not None and "vectors" in answers:
            answers["vectors"] = answers["vectors"] - x.unsqueeze(1)
        return z, hidden, answers

    return read


FAULTS = (
    Fault(
        "nothing is forgotten",
        rank_one.Stretch,
        "of",
        _forgets_nothing,
        nested(76, 78, 79, 83, 86, 88),
        (STILL, SHARED, OWN, DEEP),
    ),
    Fault(
        "all tokens have one rate",
        Rates,
        "of",
        lambda right: lambda self, name, raw: right(self, name, raw.mean().expand_as(raw) if name == "eta" else raw),
        nested(76, 79, 83, 86),
        (STILL, SHARED, OWN),
    ),
    Fault("the error counts twice", chunks, "_error", times(2.0), nested(77, 80, 81, 85, 88, 93), (STILL, SHARED, OWN, SQUARE)),
    Fault(
        "the dot product is fled from",
        chunks,
        "_error",
        _ascends,
        nested(92),
        (DOT, partial(tests.test_the_dot_product_and_the_factor_make_a_memory_say_its_value, 16)),
    ),
    Fault("memories share their own values", chunks, "_error", one_value, nested(84, 85, 87), (OWN, DEEP)),
    Fault(
        "what is taken out is not what is there",
        rank_one,
        "_one_later",
        always(lambda table: table),
        nested(90, 92, 93),
        (CHUNKS, DOT, SQUARE),
    ),
    Fault("memories are read behind their chunk", chunks, "_answers", written_first, nested(83, 86, 90), (OWN, CHUNKS)),
    Fault("all is made by the newest memories", chunks, "_segment", _at_the_newest, nested(90), (CLOCKS,)),
    Fault(
        "the memory has the clock of the projections",
        SelfModifyingRule,
        "chunks",
        a_property(lambda self: dict.fromkeys(("memory", "projections"), self.projection_chunk or self.chunk)),
        nested(90),
        (CLOCKS,),
    ),
    Fault(
        "reading alone asks memories that hold nothing",
        layer,
        "at_rest",
        _at_the_start,
        nested(78, 82),
        (STILL, tests.test_read_only_answers_are_those_behind_the_write),
    ),
    Fault("a memory is nothing beside its perceptron", Bank, "read", _no_identity, nested(84, 87, 88), (DEEP,)),
    Fault(
        "the structure has no identity",
        ResidualMLP,
        "read",
        lambda right: lambda self, weights, x: right(self, weights, x) - x,
        nested(89, 91),
        (tests.test_a_memory_is_a_perceptron_beside_the_identity,),
    ),
)
