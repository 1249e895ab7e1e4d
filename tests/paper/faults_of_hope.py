"""Faults that harm the equations of Hope."""

from __future__ import annotations

from functools import partial
from typing import Any

from retain.blocks import Block
from retain.layers import continuum
from retain.layers.level import LevelMLP
from retain.layers.self_modifying import chunks
from retain.models.learning import Learning
from tests.paper import test_nested_hope as tests
from tests.paper.faults import Fault, Function, nested, times
from tests.paper.faults_of_self_modifying import one_value, written_first

HOPE = partial(tests.test_hope_is_a_memory_that_writes_itself_and_a_chain_of_levels, "Matrix")


def _never_learns(right: Function) -> Function:
    return lambda self, state, gradients, tokens: state


def _of_the_token_itself(right: Function) -> Function:
    """The labels are the tokens that were read."""
    return lambda self, ids, labels, states: right(self, ids, ids, states)


def _all_at_once(right: Function) -> Function:
    """Each level reads what the first one reads."""

    def forward(self: Any, x: Any, state: Any = None) -> Any:
        kept = [continuum.under(state or {}, f"{i}/") for i in range(len(self.levels))]
        return x + sum(block(x, own) for block, own in zip(self.blocks, kept, strict=True))

    return forward


FAULTS = (
    Fault(
        "memories are read behind their chunk",
        chunks,
        "_answers",
        written_first,
        nested(94),
        (HOPE, tests.test_a_token_is_answered_before_it_is_written),
    ),
    Fault("memories share their own values", chunks, "_error", one_value, nested(95), (HOPE,)),
    Fault("the error counts twice", chunks, "_error", times(2.0), nested(96), (HOPE,)),
    Fault("levels never learn", Block, "learn", _never_learns, nested(97), (HOPE,)),
    Fault("a level steps along half of its sum", LevelMLP, "options", lambda right: lambda self: {**right(self), "lr": 0.05}, nested(97), (HOPE,)),
    Fault("levels foretell what they have read", Learning, "_read_and_learn", _of_the_token_itself, nested(97), (HOPE,)),
    Fault("levels do not follow each other", continuum.ContinuumMemory, "forward", _all_at_once, nested(97), (HOPE,)),
)
