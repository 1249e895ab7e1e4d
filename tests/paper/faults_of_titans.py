"""Faults that harm equations of Titans."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from retain import bias, learner, retention, structure
from retain.blocks import LMM, MAC, MAG, MAL, BlockState, mac, mal, mixer
from retain.core.contracts import AbstractRetention
from retain.core.engine import AbstractEngine
from retain.core.tokens import Tokens
from retain.core.trees import each, stretch
from retain.engines import coefficients, delta, dual
from retain.layers import attention, gates, projections, window
from tests.laws import test_reductions as reductions
from tests.paper import test_titans_blocks as blocks
from tests.paper import test_titans_memory as memory
from tests.paper.faults import Fault, Function, a_property, always, miras, never_moves, shorter, times, titans, unmasked
from tests.unit.blocks import test_blocks as figures

SOFTMAX = blocks.test_attention_over_all_tokens_is_a_softmax_of_products_of_projections
IN_SIGHT = blocks.test_a_token_sees_the_persistent_ones_and_its_window_and_nothing_else
FEED_FORWARD = blocks.test_persistent_tokens_in_attention_are_a_feed_forward_layer_with_a_softmax
FIGURE_3 = (
    blocks.test_segments_of_mac_go_through_retrieval_context_attention_storing_and_gating,
    figures.test_mac_is_figure_3_one_token_after_the_other,
)
MAG_BY_HAND = (blocks.test_mag_is_a_window_gated_by_a_memory_of_everything, figures.test_mag_is_attention_gated_by_a_memory_of_everything)
MAL_BY_HAND = (blocks.test_mal_is_a_window_over_what_a_memory_answers, figures.test_mal_is_attention_over_what_a_memory_answers)
READ_AND_WRITE = partial(memory.test_a_token_is_written_into_a_state_and_read_from_it, "after")
HALF = partial(reductions.test_titans_eq32_and_eq33_memory_with_momentum_and_forgetting, 0.5)
CHUNKS = memory.test_each_chunk_of_a_deep_memory_in_closed_form


def _swapped(right: Function) -> Function:
    def project(self: Any, x: Any) -> Any:
        q, k, v = right(self, x)
        return q, v, k

    return project


def _swapped_with_tail(right: Function) -> Function:
    def forward(*args: Any) -> Any:
        q, k, v, tail = right(*args)
        return q, v, k, tail

    return forward


def _without_persistent_tokens(self: Any, batch: int) -> BlockState:
    return BlockState(memories={"memory": self.memory.start(batch)}, sights=self.attention.start(batch) if hasattr(self, "attention") else ())


def _stays(right: Function) -> Function:
    def run(self: Any, rule: Any, tokens: Any, state: Any, lengths: Any = None) -> Any:
        y, _, surprise = right(self, rule, tokens, state, lengths)
        return y, state, surprise

    return run


def _lingers_late(self: Any, moments: Any, update: Any, step: Any) -> Any:
    return (each(lambda s, u: stretch(step.momentum[..., 0], s) * (s - u), moments[0], update),)


def _begins_anew(right: Function) -> Function:
    def response(*args: Any) -> Any:
        found = right(*args)
        return found._replace(moments_from_moments=0 * found.moments_from_moments)

    return response


ATTENTION = (
    Fault("keys and values are swapped", attention.AttentionMap, "project", _swapped, titans(1) + miras(1), (SOFTMAX,)),
    Fault("scores are twice as large", window, "attend", lambda right: lambda q, *rest: right(2 * q, *rest), titans(2) + miras(2), (SOFTMAX,)),
    Fault("attention sees what is ahead", window, "attend", unmasked, titans(2) + miras(2), (SOFTMAX,)),
    Fault(
        "persistent tokens are out of sight",
        window.Window,
        "look",
        lambda right: lambda self, q, k, v, before, lengths, prefix: right(self, q, k, v, before, lengths, None),
        titans(20, 27, 31),
        (FEED_FORWARD, IN_SIGHT, MAG_BY_HAND[0], MAL_BY_HAND[0]),
    ),
    Fault(
        "the window is one token too short",
        window,
        "_attend",
        lambda right: lambda q, k, v, mask, prefix: right(q, k, v, shorter(mask), prefix),
        titans(27, 31),
        (IN_SIGHT, MAG_BY_HAND[0], MAL_BY_HAND[0]),
    ),
)

BLOCKS = (
    Fault(
        "a memory never reads the persistent tokens",
        LMM,
        "start",
        always(_without_persistent_tokens),
        titans(19),
        (
            blocks.test_persistent_tokens_stand_before_every_stream_and_depend_on_none,
            figures.test_lmm_is_a_memory_that_has_read_the_persistent_tokens,
        ),
    ),
    Fault("MAC reads the memory of the start", MAC, "_begin", always(lambda self, tensors, state, rows: tensors), titans(21), FIGURE_3),
    Fault(
        "what was retrieved is left out of the context",
        MAC,
        "_keys_and_values",
        lambda right: lambda self, x, h, *rest: right(self, x, 0 * h, *rest),
        titans(22),
        FIGURE_3,
    ),
    Fault("a token of MAC sees what is ahead in its segment", mac, "attend", unmasked, titans(23), FIGURE_3),
    Fault("MAC stores nothing", mac, "remember", lambda right: lambda *args: right(*args[:-1], False), titans(24), FIGURE_3),
    Fault(
        "attention gates what the memory says",
        mixer.GatingMap,
        "forward",
        lambda right: lambda self, y, m: right(self, m, y),
        titans(25, 28),
        (*FIGURE_3, *MAG_BY_HAND),
    ),
    Fault(
        "nothing is normalised before it is gated",
        mixer.GatingMap,
        "forward",
        always(lambda self, y, m: y * torch.sigmoid(m)),
        titans(25, 28),
        (partial(blocks.test_a_memory_gates_what_attention_says, "sigmoid"),),
    ),
    Fault("MAG's memory never reads the persistent tokens", MAG, "start", always(_without_persistent_tokens), titans(26), MAG_BY_HAND),
    Fault("MAL knows no persistent tokens", MAL, "start", always(_without_persistent_tokens), titans(29), MAL_BY_HAND),
    Fault("MAL leaves its memory out", mal, "remember", always(lambda m, x, state, real, write: (x, state)), titans(30), MAL_BY_HAND),
    Fault(
        "keys are bound in the place of values",
        projections.ProjectionMap,
        "forward",
        _swapped_with_tail,
        titans(11),
        (blocks.test_keys_values_and_queries_are_projections_of_the_token,),
    ),
)

MEMORY = (
    Fault(
        "what should be kept fades",
        retention.Keep,
        "keep",
        always(lambda self, accumulator, step: each(lambda a: 0.9 * a, accumulator)),
        titans(3),
        (memory.test_kernel_attention_is_a_memory_of_features_whose_values_end_in_one,),
    ),
    Fault(
        "half of a value is written",
        bias.Dot,
        "pull",
        a_property(lambda self: 0.5),
        titans(4),
        (reductions.test_titans_eq4_and_eq5_linear_attention,),
    ),
    Fault("a matrix answers too loudly", structure.Matrix, "read", times(1.1), titans(5), (reductions.test_titans_eq4_and_eq5_linear_attention,)),
    Fault("the state stays as it was", AbstractEngine, "run", _stays, titans(6), (READ_AND_WRITE,)),
    Fault(
        "a token reads before its own write",
        dual,
        "step_by_step",
        lambda right: lambda rule, *parts: right(replace(rule, reads="before"), *parts),
        titans(7),
        (READ_AND_WRITE,),
    ),
    Fault(
        "the memory climbs its loss",
        learner.Gradient,
        "expose",
        always(lambda self, moments, update, step: update),
        titans(8) + miras(5),
        (memory.test_momentary_surprise_is_one_gradient_step_of_each_loss_of_the_stream,),
    ),
    Fault(
        "what should be kept fades, step by step",
        retention.Keep,
        "keep",
        always(lambda self, accumulator, step: each(lambda a: 0.9 * a, accumulator)),
        titans(9),
        (reductions.test_titans_eq10_momentum_in_closed_form,),
    ),
    Fault(
        "past surprise lingers for ever",
        learner.Momentum,
        "accumulate",
        always(lambda self, moments, update, step: (each(torch.sub, moments[0], update),)),
        titans(10),
        (reductions.test_titans_eq10_momentum_in_closed_form,),
    ),
    Fault(
        "the whole loss has the gradient of the half",
        bias.L2,
        "grad",
        always(lambda self, y, v: y - v),
        titans(12),
        (memory.test_the_associative_loss_is_the_squared_length_of_the_error,),
    ),
    Fault(
        "the memory forgets twice",
        retention.Decay,
        "keep",
        lambda right: lambda self, accumulator, step: right(self, right(self, accumulator, step), step),
        titans(13),
        (memory.test_past_surprise_lingers_and_the_memory_forgets,),
    ),
    Fault(
        "surprise is measured at the decayed memory",
        AbstractRetention,
        "gradient_point",
        always(lambda self, anchor, step: self.keep(anchor, step)),
        titans(13, 14),
        (memory.test_past_surprise_lingers_and_the_memory_forgets,),
    ),
    Fault(
        "the surprise of now decays with that of the past",
        learner.Momentum,
        "accumulate",
        always(_lingers_late),
        titans(14),
        (memory.test_past_surprise_lingers_and_the_memory_forgets,),
    ),
    Fault(
        "what is read is written",
        Tokens,
        "written",
        a_property(lambda self: torch.ones(self.batch, self.time, dtype=torch.bool)),
        titans(15),
        (memory.test_a_read_is_a_forward_pass_that_leaves_the_memory_alone,),
    ),
)

CHUNKWISE = (
    Fault("gradients are taken at the first memory for ever", dual, "moves_anchor", never_moves, titans(16) + miras(28), (CHUNKS,)),
    Fault(
        "a token fades by its own gate",
        coefficients,
        "products",
        lambda right: lambda factors: right(factors) * factors.unsqueeze(-2),
        titans(16, 17),
        (memory.test_the_gradient_of_each_chunk_of_a_matrix_is_one_product, CHUNKS),
    ),
    Fault(
        "momentum begins anew in each chunk",
        learner.Momentum,
        "response",
        _begins_anew,
        titans(18),
        (memory.test_momentum_inside_a_chunk_in_closed_form, memory.test_momentum_inside_a_chunk_runs_over_gradients_at_its_start),
    ),
    Fault("nothing is forgotten", retention.Decay, "keep", always(lambda self, accumulator, step: accumulator), titans(32), (HALF,)),
    Fault("the half loss has the gradient of the whole", bias.L2, "grad", always(lambda self, y, v: 2 * (y - v)), titans(33), (HALF,)),
    Fault("earlier writes of a chunk are not unlearnt", delta, "_gram", times(0.0), titans(34), (reductions.test_titans_eq34_delta_net,)),
    Fault(
        "a prediction counts for less than a value",
        bias.L2,
        "slope",
        a_property(lambda self: 1.8 * self.scale),
        titans(35),
        (memory.test_longhorn_is_the_delta_rule_whose_rate_is_that_of_an_implicit_step,),
    ),
    Fault(
        "a rate has no bound",
        gates.GateMap,
        "_curve",
        always(lambda self, z: z.exp()),
        titans(35),
        (memory.test_a_sigmoid_gate_on_keys_of_length_one_is_a_rate_of_longhorn,),
    ),
)

FAULTS = (*ATTENTION, *BLOCKS, *MEMORY, *CHUNKWISE)
