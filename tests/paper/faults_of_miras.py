"""Faults that harm equations of MIRAS."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from retain import bias, retention
from retain.core.contracts import AbstractRetention
from retain.core.trees import each, each_matrix
from retain.engines import delta, materialised, whole_steps
from retain.memory.bias import huber
from retain.memory.learner import per_channel
from tests.laws import test_reductions as reductions
from tests.paper import test_miras_biases as biases
from tests.paper import test_miras_channels as channels
from tests.paper import test_miras_memory as memory
from tests.paper import test_miras_models as models
from tests.paper import test_miras_retention as retentions
from tests.paper import test_titans_memory as stream
from tests.paper.faults import Fault, Function, a_property, always, miras, never_moves, squared, times

CUBES = partial(memory.test_a_matrix_learns_powers_of_its_error, 3.0)
SHARES = partial(retentions.test_the_softmax_step_is_least_among_shares, 2.5)
LOGARITHMS = models.test_a_chunk_of_memora_steps_in_logarithms_and_is_the_recursion_of_softmaxes
LAG = models.test_a_chunk_of_memora_behind_its_lag_token_is_one_product_in_logarithms
MONETA = partial(models.test_moneta_holds_powers_of_the_error_and_divides_by_a_norm, False)
CHUNK_OF_CUBES = partial(models.test_the_gradient_of_a_chunk_of_powers_is_one_product, 3.0)


def _as_it_is(self: Any, accumulator: Any, step: Any) -> Any:
    return accumulator


def _mistold(right: Function) -> Function:
    def loss(self: Any, y: Tensor, v: Tensor) -> Tensor:
        return right(self, y, v) + (self.threshold**2 / 2 * ((y - v).abs() > self.threshold)).sum(-1)

    return loss


def _only_signs(self: Any, y: Tensor, v: Tensor) -> Tensor:
    r = y - v
    return torch.where(r.norm(dim=-1, keepdim=True) <= self.threshold, r, r.sign())


def _over_columns(self: Any, accumulator: Any, lead: int = 2) -> Any:
    return each_matrix(lambda a: self.total * a.softmax(-2), lead, accumulator)


def _unnormalised(self: Any, accumulator: Any, lead: int = 2) -> Any:
    return each_matrix(torch.exp, lead, accumulator)


def _one_power_too_many(self: Any, accumulator: Any, lead: int = 2) -> Any:
    return each_matrix(lambda a: a / self._norm(a, self.q, lead) ** (self.q - 1), lead, accumulator)


STEPS = (
    Fault(
        "the channels of a decay are the other way round",
        retention.ChannelDecay,
        "ratio",
        lambda right: lambda self, retain: right(self, retain).flip(-1),
        miras(3),
        (memory.test_a_linear_recurrence_whose_decay_is_diagonal,),
    ),
    Fault(
        "values are written too loudly",
        bias.L2,
        "pull",
        a_property(lambda self: 2.2 * self.scale),
        miras(4),
        (memory.test_a_memory_that_sees_its_pairs_again_and_again_becomes_the_best_one,),
    ),
    Fault(
        "half of the surprise is told",
        whole_steps,
        "per_token",
        times(0.5),
        miras(6),
        (stream.test_momentary_surprise_is_one_gradient_step_of_each_loss_of_the_stream,),
    ),
    Fault(
        "a rate counts twice in the delta engine",
        delta,
        "shares_of",
        squared,
        miras(7),
        (partial(memory.test_gradient_descent_from_nothing_follows_the_regularised_leader, 0.4),),
    ),
    Fault(
        "nothing is forgotten",
        retention.Decay,
        "ratio",
        always(lambda self, retain, like: torch.ones_like(like)),
        miras(3, 8),
        (reductions.test_miras_eq8_retnet, memory.test_a_hebbian_step_with_decay_is_least),
    ),
    Fault(
        "surprise is measured before the decay",
        AbstractRetention,
        "gradient_point",
        always(lambda self, anchor, step: anchor),
        miras(9),
        (memory.test_a_delta_step_with_decay_is_least, reductions.test_gated_delta_net_takes_its_gradient_at_the_decayed_memory),
    ),
)

BIASES = (
    Fault(
        "a norm is told for its power",
        bias.Lp,
        "loss",
        lambda right: lambda self, y, v: right(self, y, v) ** (1 / self.p),
        miras(10),
        (CUBES, biases.test_lp_is_the_power_of_the_norm),
    ),
    Fault(
        "the factor p is missing",
        bias.Lp,
        "grad",
        lambda right: lambda self, y, v: right(self, y, v) / self.p,
        miras(11, 25, 29),
        (CUBES, partial(biases.test_the_step_of_lp_is_that_of_a_matrix_memory, 3.0), MONETA, CHUNK_OF_CUBES),
    ),
    Fault(
        "the size of an error counts where its sign should alone",
        bias.Lp,
        "grad",
        always(lambda self, y, v: y - v),
        miras(12),
        (memory.test_a_matrix_learns_signs_of_its_error, biases.test_the_absolute_error_writes_signs_whatever_its_size),
    ),
    Fault(
        "Huber's function jumps",
        huber._Huber,
        "loss",
        _mistold,
        miras(13),
        (biases.test_huber_by_coordinates_is_torchs, memory.test_a_matrix_learns_errors_clipped_number_by_number),
    ),
    Fault(
        "large errors pull without bound",
        huber._Huber,
        "grad",
        always(lambda self, y, v: y - v),
        miras(14, 15, 16),
        (
            memory.test_a_matrix_learns_errors_clipped_number_by_number,
            memory.test_a_matrix_learns_errors_whose_length_is_clipped,
            memory.test_a_matrix_learns_small_errors_and_the_signs_of_large_ones,
            biases.test_the_step_of_huber_by_coordinates_is_two_masked_steps,
            biases.test_huber_of_the_norm_clips_the_length_of_the_error,
        ),
    ),
    Fault(
        "the threshold does not multiply the signs",
        huber._Huber,
        "grad",
        always(_only_signs),
        miras(16),
        (
            memory.test_a_matrix_learns_small_errors_and_the_signs_of_large_ones,
            biases.test_huber_as_a_mixture_takes_the_step_of_one_loss_or_the_other,
        ),
    ),
    Fault(
        "no shift is feared",
        bias.ShiftRobust,
        "grad",
        always(lambda self, y, v: y - v),
        miras(5, 17),
        (
            memory.test_a_matrix_learns_against_the_worst_shift_of_its_values,
            partial(memory.test_a_step_is_the_gradient_by_differences, bias.ShiftRobust(radius=0.3)),
        ),
    ),
)

RETENTIONS = (
    Fault(
        "no multiplier holds the sum",
        retention.FDivergence,
        "_scaled",
        always(lambda self, w, delta: w * (1 + delta / 2).clamp(min=0)),
        miras(18),
        (partial(retentions.test_a_divergence_step_is_least_on_the_simplex, 1.0), memory.test_a_matrix_that_keeps_near_by_a_divergence),
    ),
    Fault(
        "entropy has no weight",
        retention.KL,
        "keep",
        always(_as_it_is),
        miras(19, 21, 27, 30),
        (SHARES, memory.test_a_matrix_of_shares, models.test_memora_learns_in_shares, LAG),
    ),
    Fault("shares do not add up", retention.KL, "expose", always(_unnormalised), miras(20), (SHARES,)),
    Fault(
        "shares are those of columns",
        retention.KL,
        "expose",
        always(_over_columns),
        miras(21, 27),
        (retentions.test_slices_are_simplices_of_their_own, models.test_memora_learns_in_shares),
    ),
    Fault(
        "small entries stay",
        retention.ElasticNet,
        "_small_to_zero",
        always(lambda self, a: a),
        miras(22, 23),
        (
            retentions.test_the_elastic_net_forgets_softly_and_hard,
            retentions.test_the_elastic_leader_is_least_over_all_that_was_seen,
            memory.test_a_matrix_that_forgets_softly_and_hard,
            memory.test_a_matrix_that_follows_an_elastic_leader,
        ),
    ),
    Fault(
        "a leader forgets",
        retention.ElasticNet,
        "keep",
        always(lambda self, accumulator, step: each(lambda a: 0.9 * a, accumulator)),
        miras(23),
        (retentions.test_the_elastic_leader_is_least_over_all_that_was_seen,),
    ),
)

MODELS = (
    Fault(
        "the norm is divided by once too often",
        retention.Lq,
        "expose",
        always(_one_power_too_many),
        miras(24),
        (MONETA, retentions.test_the_printed_link_is_homogeneous_of_degree_three_less_q),
    ),
    Fault("a rate counts twice", materialised, "shares_of", squared, miras(24, 25), (MONETA, models.test_the_rate_of_moneta_counts_once)),
    Fault(
        "a token's threshold is not asked for",
        bias.Huber,
        "at",
        always(lambda self, threshold: huber._Huber(self.kind, torch.full_like(threshold, self.threshold))),
        miras(26, 29),
        (models.test_yaad_holds_squares_of_small_errors_and_signs_of_large_ones, models.test_the_gradient_of_a_chunk_of_yaad_is_two_masked_products),
    ),
    Fault(
        "Yaad's gradient is taken at the decayed memory",
        AbstractRetention,
        "gradient_point",
        always(lambda self, anchor, step: self.keep(anchor, step)),
        miras(26),
        (models.test_yaad_holds_squares_of_small_errors_and_signs_of_large_ones,),
    ),
    Fault(
        "gradients are taken at the first memory for ever",
        materialised,
        "moves_anchor",
        never_moves,
        miras(28, 30),
        (models.test_chunks_of_moneta_with_a_square_norm_in_closed_form, LOGARITHMS),
    ),
    Fault(
        "the power is that of the loss",
        bias.Lp,
        "grad",
        lambda right: lambda self, y, v: right(self, y, v) * (y - v).abs(),
        miras(11, 29),
        (CUBES, CHUNK_OF_CUBES),
    ),
    Fault(
        "the half loss is told whole",
        bias.L2,
        "loss",
        times(2.0),
        miras(31),
        (models.test_the_gradient_at_a_lag_token_is_that_of_half_the_squared_error,),
    ),
    Fault(
        "the half loss has the gradient of the whole", bias.L2, "grad", always(lambda self, y, v: 2 * (y - v)), miras(27, 30, 31), (LOGARITHMS, LAG)
    ),
    Fault(
        "the rates of a chunk come in the wrong order",
        materialised,
        "_updates",
        lambda right: lambda factors, shares, cells: right(factors, shares.flip(-1), cells),
        miras(32),
        (LAG,),
    ),
)

CHANNELS = (
    Fault(
        "all channels learn at one rate",
        per_channel,
        "_scaled",
        always(lambda update, step: update),
        miras(24, 26, 27),
        (partial(channels.test_moneta_by_channel, 4), partial(channels.test_yaad_by_channel, 1), partial(channels.test_memora_by_channel, 4)),
    ),
    Fault(
        "shares forget from logarithms that know no sum",
        retention.KL,
        "canonical",
        always(lambda self, accumulator, lead=2: accumulator),
        miras(27),
        (partial(channels.test_memora_by_channel, 1),),
    ),
    Fault(
        "the threshold of a channel is that of another",
        bias.Huber,
        "at",
        lambda right: lambda self, threshold: right(self, threshold.flip(-1)),
        miras(14, 26),
        (partial(channels.test_yaad_by_channel, 1),),
    ),
)

FAULTS = (*STEPS, *BIASES, *RETENTIONS, *MODELS, *CHANNELS)
