"""What a titans-pytorch ``NeuralMemory`` was constructed with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from retain.core.contracts import AbstractBias, AbstractStructure
from retain.memory import structure
from retain.numerics import Activation

# Of no consequence for what a trained layer computes: how it scans, where its gates started, and that its input comes in three parts.
_WITHOUT_EFFECT = {"use_accelerated_scan", "init_adaptive_step_bias", "init_momentum_bias", "init_decay_bias", "qkv_receives_diff_views"}
_ACTIVATIONS: dict[str, Activation] = {"SiLU": "silu", "GELU": "gelu", "ReLU": "relu", "Tanh": "tanh"}


_DEFAULTS: dict[str, Any] = {
    "chunk_size": 1,
    "batch_size": None,
    "heads": 1,
    "store_memory_loss_fn": None,
    "default_step_transform_max_lr": 1.0,
    "per_parameter_lr_modulation": False,
    "max_mem_layer_modulation": 1.0,
    "per_head_learned_parameters": True,
    "attn_pool_chunks": False,
    "momentum": True,
    "momentum_order": 1,
    "learned_momentum_combine": False,
    "learned_combine_include_zeroth": False,
    "num_kv_per_token": 1,
    "pre_rmsnorm": True,
    "post_rmsnorm": False,
    "qk_rmsnorm": False,
    "max_grad_norm": None,
    "activation": None,
    "spectral_norm_surprises": False,
    "gated_transition": False,
    "mem_model_norm_add_residual": True,
    "store_with_lookahead_value": False,
    "accept_weight_residual": False,
}
_NO_COUNTERPART = {
    "adaptive_step_transform": "rates are default_step_transform_max_lr times a sigmoid",
}


class Arguments:
    """Their arguments, as attributes of their names; ``model``, ``activation`` and the loss in our words.

    Args:
        given: What their constructor was handed.

    Raises:
        ValueError: An argument is unknown, missing, or has no counterpart; the message names it.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        for name, why in _NO_COUNTERPART.items():
            if given.get(name):
                raise ValueError(f"{name} has no counterpart: {why}.")
        unknown = given.keys() - _DEFAULTS.keys() - _NO_COUNTERPART.keys() - _WITHOUT_EFFECT - {"dim", "dim_head", "model", "default_model_kwargs"}
        if unknown:
            raise ValueError(f"titans-pytorch's NeuralMemory has no argument {', '.join(map(repr, sorted(unknown)))}.")
        if "dim" not in given:
            raise ValueError("dim, the width of the stream, is missing among the constructor arguments.")
        loss = given.get("store_memory_loss_fn")
        if loss is not None and not isinstance(loss, AbstractBias):
            raise ValueError("store_memory_loss_fn has no counterpart of its own; hand over one of retain's biases, such as bias.L2().")
        self._values: dict[str, Any] = {
            **_DEFAULTS,
            **given,
            "dim_head": given.get("dim_head") or given["dim"],
            "chunk_size": _one_size(given.get("chunk_size", 1)),
            "activation": _activation(given.get("activation")),
            "model": _model(given.get("default_model_kwargs"), given.get("model")),
        }

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(name) from None


def arguments_of(module: nn.Module) -> Arguments:
    """What a live module was constructed with.

    Raises:
        ValueError: It is not one of theirs, or something about it has no counterpart; the message names it.
    """
    m: Any = module
    if not hasattr(m, "memory_model_parameter_names"):
        raise ValueError(f"{type(m).__name__} is not a titans-pytorch NeuralMemory.")
    transform = m.adaptive_step_transform
    if getattr(getattr(transform, "func", None), "__name__", "") != "default_adaptive_step_transform":
        raise ValueError("adaptive_step_transform is not the default, which has no counterpart.")
    if getattr(m.store_memory_loss_fn, "__name__", "") != "default_loss_fn":
        raise ValueError("store_memory_loss_fn is not the default; load its state dict with one of retain's biases as store_memory_loss_fn.")
    wrapped = type(m.memory_model).__name__ == "ResidualNorm"
    queries = m.to_queries
    return Arguments(
        {
            "dim": (queries[0] if isinstance(queries, nn.Sequential) else queries).in_features,
            "dim_head": (queries[0] if isinstance(queries, nn.Sequential) else queries).out_features // m.heads,
            "chunk_size": m.chunk_size,
            "batch_size": m.batch_size,
            "heads": m.heads,
            "model": _structure_of(m.memory_model.model if wrapped else m.memory_model),
            "mem_model_norm_add_residual": wrapped,
            "default_step_transform_max_lr": transform.keywords["max_lr"],
            "per_parameter_lr_modulation": m.to_layer_modulation is not None,
            "max_mem_layer_modulation": m.max_mem_layer_modulation,
            "per_head_learned_parameters": m.per_head_learned_parameters,
            "attn_pool_chunks": type(m.reduce_to_chunk_rep).__name__ == "AttentionPool",
            "momentum": m.to_momentum is not None,
            "momentum_order": m.momentum_order,
            "learned_momentum_combine": m.to_learned_momentum_combine is not None,
            "learned_combine_include_zeroth": getattr(m, "learned_combine_include_zeroth", False),
            "num_kv_per_token": m.num_kv_per_token,
            "pre_rmsnorm": isinstance(m.store_norm, nn.RMSNorm),
            "post_rmsnorm": hasattr(m.multihead_rmsnorm, "gamma"),
            "qk_rmsnorm": hasattr(m.q_norm, "gamma"),
            "max_grad_norm": m.max_grad_norm,
            "activation": queries[1] if isinstance(queries, nn.Sequential) else None,
            "spectral_norm_surprises": m.spectral_norm_surprises,
            "gated_transition": m.transition_gate is not None,
            "accept_weight_residual": m.to_learned_weight_residual_mix is not None,
            "store_with_lookahead_value": m.store_with_lookahead_value,
        }
    )


def _one_size(chunk_size: Any) -> int:
    sizes = chunk_size if isinstance(chunk_size, (tuple, list)) else (chunk_size, chunk_size)
    if len(set(sizes)) != 1:
        raise ValueError(
            f"chunk_size {chunk_size}: reading and storing in chunks of different sizes has no counterpart (theirs fails on it as well)."
        )
    return int(sizes[0])


def _activation(given: Any) -> Activation | None:
    name: Any = type(given).__name__ if isinstance(given, nn.Module) else given
    if name is None or name in _ACTIVATIONS.values():
        return name
    if name not in _ACTIVATIONS or (name == "GELU" and given.approximate != "none"):
        raise ValueError(f"activation {given!r} has no counterpart; there are {', '.join(_ACTIVATIONS)}.")
    return _ACTIVATIONS[name]


def _model(kwargs: Mapping[str, Any] | None, model: Any) -> AbstractStructure:
    if isinstance(model, AbstractStructure):
        return model
    if isinstance(model, nn.Module):
        return _structure_of(model)
    kwargs = dict(kwargs or {"depth": 2, "expansion_factor": 4.0})
    return structure.MLP(depth=kwargs["depth"], expansion=kwargs.get("expansion_factor", 2.0))


def _structure_of(model: Any) -> AbstractStructure:
    kind = type(model).__name__
    weights: Any = getattr(model, "weights", None)
    if kind == "MemoryMLP":
        expansion = weights[0].shape[1] / weights[0].shape[0] if len(weights) > 1 else 4.0
        return structure.MLP(depth=len(weights), expansion=expansion)
    if kind == "GatedResidualMemoryMLP":
        return structure.GatedResidualMLP(depth=len(weights), expansion=weights[0][0].shape[1] / weights[0][0].shape[0])
    if kind == "FactorizedMemoryMLP":
        return structure.LowRankMLP(depth=len(weights), rank=weights[0][0].shape[1])
    if kind == "MemorySwiGluMLP":
        dim, inner = weights[0][0].shape[0], weights[0][0].shape[1] // 2
        return structure.ResidualGLU(depth=len(weights), expansion=(inner + 0.5) * 1.5 / dim)
    if kind == "MemoryAttention":
        return structure.AttentionMLP(scale=model.scale, expansion=weights[3].shape[1] / weights[3].shape[0])
    return structure.Module(module=model)
