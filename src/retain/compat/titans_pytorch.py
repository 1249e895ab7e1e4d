"""titans-pytorch's NeuralMemory (0.5.5), read as ours: the same numbers from the same weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from retain.core.contracts import AbstractLearner, AbstractLinearLearner, AbstractStructure
from retain.core.rule import Anchor, MemoryRule
from retain.core.state import MemoryState
from retain.engines import Trail
from retain.layers import RMS, Gates, NeuralMemory, Output, Projections
from retain.memory import bias, learner, retention, structure

from .titans_arguments import Arguments, arguments_of

__all__ = ["load", "state"]

_EXACT = RMS(eps=None)  # torch's own default, which theirs uses


def load(source: nn.Module | Mapping[str, Tensor], **constructor_arguments: Any) -> NeuralMemory:
    """Our layer with the weights of a titans-pytorch ``NeuralMemory``; its outputs and gradients are theirs, wherever theirs are right.

    Args:
        source: One of their modules, or its ``state_dict``, for which titans-pytorch need not be installed.
        constructor_arguments: With a state dict, what their constructor was given: ``dim`` and all that was not left at its default. ``model`` is
            one of our structures, unless it was left out; a module tells all by itself.

    Returns:
        A layer in training mode, in the type of the weights. Their ``store_mask`` is our ``emphasis``, their views and ``store_seq`` our ``store``,
        their ``prev_weights`` our ``beside``.

    Raises:
        ValueError: An argument is unknown, missing or has no counterpart here; a key is missing, unknown or misshapen. Each is named.

    Examples:
        >>> load({"to_queries.weight": torch.zeros(4, 4)}, dim=4)
        Traceback (most recent call last):
            ...
        ValueError: the state dict lacks 'to_keys.weight'; it has nothing more. Were all constructor arguments given?
    """
    if isinstance(source, nn.Module):
        if constructor_arguments:
            raise ValueError(f"a module says by itself how it was made; leave out {', '.join(constructor_arguments)}.")
        given, weights = arguments_of(source), source.state_dict()
    else:
        given, weights = Arguments(constructor_arguments), source
    memory = _layer(given)
    left = {name: w for name, w in weights.items() if not name.startswith("memory_model.")}
    if not given.per_head_learned_parameters:
        memory.share_initial()
    kind = next((w.dtype for w in left.values() if w.is_floating_point()), torch.float32)
    _fill(memory.to(kind), given, _Weights(left))
    return memory


def state(neural_mem_state: Sequence[Any], memory: NeuralMemory) -> MemoryState:
    """Their ``NeuralMemState`` as a state of the layer that ``load`` made.

    It keeps no queries, so with a ``MemoryAttention`` the first answers see none of those before them, as theirs do.

    Args:
        neural_mem_state: Sequence index, weights at which gradients are taken, tokens that fill no chunk yet, and (last weights, last momentum).
        memory: The layer that is to go on from it: the tokens that wait are read by it again.

    Raises:
        ValueError: The state does not fit the layer.

    Examples:
        >>> memory = NeuralMemory(4)
        >>> weights = {f"w{i}": w for i, w in enumerate(memory.initial.values())}
        >>> state((0, weights, None, (weights, {n: w[None] for n, w in weights.items()}), None), memory).clock
        tensor([0])
    """
    index, anchor, waiting, states, *_ = neural_mem_state
    last, momentum = (dict(part.items()) for part in states)
    names = _names(memory)
    some = next(iter(last.values()))
    if len(last) != len(names) or some.shape[0] % memory.heads:
        raise ValueError(
            f"the state holds {len(last)} weights of {some.shape[0]} memories; the layer has {len(names)} weights and {memory.heads} heads."
        )
    batch = some.shape[0] // memory.heads

    def named(parts: Mapping[str, Tensor], order: int | None = None) -> dict[str, Tensor]:
        tensors = [w if order is None else w[order] for w in parts.values()]
        found = {name: w.unflatten(0, (batch, memory.heads)) for name, w in zip(names, tensors, strict=True)}
        return {name: found[name] for name in memory.initial}

    moments = tuple(named(momentum, order) for order in range(memory.rule.learner.moments))
    clock = torch.full((batch,), int(index))
    found = replace(memory.start(batch), anchor=named(dict(anchor.items())), accumulator=named(last), moments=moments, clock=clock)
    if waiting is None or not waiting.shape[-2]:
        return found
    with torch.no_grad():
        keys, values = (waiting[0], waiting[1]) if waiting.ndim == 4 else (waiting, waiting)
        beside = None if found.beside is None else Trail(cuts=(0, keys.shape[1]), weights=(found.beside,))  # the next call's is what counts
        return memory(keys, found, store=(keys, values), beside=beside)[1]


def _names(memory: NeuralMemory) -> list[str]:
    """The names of our weights in the order of theirs, where a wrapper's gain comes first, and then a last projection."""
    whole = memory.rule.structure
    inner = whole.inner if isinstance(whole, structure.NormResidual) else whole
    first = ["gain"] * (whole is not inner) + ["out"] * isinstance(inner, structure.GatedResidualMLP)
    return [*first, *(name for name in memory.initial if name not in first)]


def _layer(given: Arguments) -> NeuralMemory:
    many = given.heads > 1
    return NeuralMemory(
        given.dim,
        heads=given.heads,
        head_dim=given.dim_head,
        rule=_rule(given),
        gates=Gates(curve="sigmoid", rate=given.default_step_transform_max_lr, damped=False, pool="attention" if given.attn_pool_chunks else "mean"),
        projections=Projections(
            conv=1,
            activation=given.activation,
            norm=_EXACT if given.qk_rmsnorm else None,
            pairs=given.num_kv_per_token,
            values="next" if given.store_with_lookahead_value else "same",
            prenorm=_EXACT if given.pre_rmsnorm else None,
        ),
        output=Output(norm=_EXACT if given.post_rmsnorm else None, gate="head" if many else None, project=many),
    )


def _rule(given: Arguments) -> MemoryRule:
    return MemoryRule(
        structure=_structure(given),
        bias=given.store_memory_loss_fn or bias.L2(scale=1 / given.dim_head),
        retention=retention.Decay(),
        learner=_learner(given),
        update_every=given.batch_size,
        step_every=given.chunk_size,
        anchor=Anchor(transition="gated" if given.gated_transition else "full", residual="weights" if given.accept_weight_residual else "none"),
    )


def _structure(given: Arguments) -> AbstractStructure:
    return structure.NormResidual(inner=given.model) if given.mem_model_norm_add_residual else given.model


def _learner(given: Arguments) -> AbstractLearner:
    """Clamped first, then scaled weight by weight, then momentum, then orthogonal."""
    linear: AbstractLinearLearner = learner.Gradient()
    if given.momentum:
        mix = "last" if not given.learned_momentum_combine else "surprise" if given.learned_combine_include_zeroth else "orders"
        linear = learner.Momentum(order=given.momentum_order, mix=mix)
    if given.per_parameter_lr_modulation:
        linear = learner.PerTensor(inner=linear, most=given.max_mem_layer_modulation)
    whole: AbstractLearner = linear
    if given.max_grad_norm is not None:
        whole = learner.Clamp(inner=whole, norm=given.max_grad_norm, kind="soft")
    return learner.Orthogonal(inner=whole, rate="before") if given.spectral_norm_surprises else whole


class _Weights:
    """Their weights, each to be taken once."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.left = dict(weights)

    def take(self, name: str) -> Tensor:
        """The weight of that name; in front of an activation theirs has a place in a sequence."""
        for key in (name, name.replace(".weight", ".0.weight")):
            if key in self.left:
                return self.left.pop(key)
        raise ValueError(
            f"the state dict lacks {name!r}; it has {', '.join(sorted(self.left)) or 'nothing more'}. Were all constructor arguments given?"
        )


def _fill(memory: NeuralMemory, given: Arguments, theirs: _Weights) -> None:
    """Copy what they have to where we have it; nothing may be left over."""
    parts: list[tuple[str, Tensor, Tensor]] = []
    take, projections, gates, output = theirs.take, memory.projections, memory.gates, memory.output

    def put(name: str, ours: Tensor | None, weight: Tensor) -> None:
        assert ours is not None
        if weight.shape != ours.shape:
            raise ValueError(f"{name!r} has shape {list(weight.shape)} where {list(ours.shape)} was expected.")
        parts.append((name, ours, weight))

    def put_gain(name: str, norm: Any) -> None:
        put(name, norm.weight, take(name).squeeze(1) + 1)

    for ours, name in ((projections.to_q, "to_queries.weight"), (projections.to_k, "to_keys.weight"), (projections.to_v, "to_values.weight")):
        put(name, ours.weight, take(name))
    for i, name in enumerate(_names(memory)):
        put(f"memory_model_parameters.{i}", memory.initial[name], _with_head(take(f"memory_model_parameters.{i}"), given))
    if projections.norm_read is not None and projections.norm_write is not None:
        put("retrieve_norm.weight", projections.norm_read.weight, take("retrieve_norm.weight"))
        put("store_norm.weight", projections.norm_write.weight, take("store_norm.weight"))
    if projections.norm_q is not None:
        put_gain("q_norm.gamma", projections.norm_q)
        put_gain("k_norm.gamma", projections.norm_k)
    if output.norm is not None:
        put_gain("multihead_rmsnorm.gamma", output.norm)
    if output.to_out is not None and output.to_gate is not None:
        put("combine_heads.weight", output.to_out.weight, take("combine_heads.weight"))
        put("retrieve_gate.0.weight", output.to_gate.weight, take("retrieve_gate.0.weight"))
    if given.attn_pool_chunks:
        assert gates.pool is not None
        put("reduce_to_chunk_rep.to_attn_logits.weight", gates.pool.weight, take("reduce_to_chunk_rep.to_attn_logits.weight"))
        put("reduce_to_chunk_rep.to_attn_logits.bias", gates.pool.bias, take("reduce_to_chunk_rep.to_attn_logits.bias"))
    if gates.transition is not None:
        put("transition_gate", gates.transition, take("transition_gate"))
    kinds = {
        "lr": "to_adaptive_step.0",
        "momentum": "to_momentum.0",
        "mix": "to_learned_momentum_combine.0",
        "scales": "to_layer_modulation.0",
        "retain": "to_decay_factor.0",
        "residual": "to_learned_weight_residual_mix.0",
    }
    wide = {kinds[gate]: memory.heads * width for gate, width in gates.widths.items() if width}
    for kind, ours in (("weight", gates.weight), ("bias", gates.bias)):
        rows = []
        for name, width in wide.items():
            weight = take(f"{name}.{kind}")
            if weight.shape[0] != width:
                raise ValueError(f"'{name}.{kind}' has shape {list(weight.shape)} where {width} rows were expected.")
            rows.append(_reordered(weight, memory) if name == "to_layer_modulation.0" else weight)
        put(f"the gates' {kind}", ours, torch.cat(rows))
    if theirs.left:
        raise ValueError(f"the state dict has weights that this layer has no place for: {', '.join(sorted(theirs.left))}.")
    with torch.no_grad():
        for _, ours, weight in parts:
            ours.copy_(weight)


def _with_head(weight: Tensor, given: Arguments) -> Tensor:
    return weight if given.per_head_learned_parameters else weight.unsqueeze(0)


def _reordered(rows: Tensor, memory: NeuralMemory) -> Tensor:
    """A row for each head and weight [heads * weights, ...], from their order of weights to the alphabet's."""
    theirs = _names(memory)
    order = [theirs.index(name) for name in sorted(theirs)]
    return rows.unflatten(0, (memory.heads, len(theirs)))[:, order].flatten(0, 1)
