"""Ad-hoc level stacking: a pretrained language model whose MLPs go on learning while it reads."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from retain.core.shapes import Clock
from retain.core.trees import placed, under
from retain.layers import ContinuumMemory, Level
from retain.layers.continuum import Form


class StackedLM(nn.Module):
    r"""A pretrained language model with $\mathrm{MLP}_0^{(f_i)} = \mathrm{MLP}_{\text{pre-trained},i}$: each layer's MLP becomes a level of a ``ContinuumMemory``.

    The model is taken over: its layers' ``mlp`` are replaced, its weights stay the same parameters. Levels beside the pretrained one start as the
    identity. So before the first update, and for ever if all rates are zero, it says what the pretrained model says.

    A state, its weights, and the way to learn are those of ``ContinuumMemory``; the paths of layer 3 begin with ``3/``.

    Source: Nested Learning section 7.3, the two readings of which are ours: a frequency for each layer, or levels within each layer.

    Args:
        model: A causal language model whose layers have an ``mlp`` of ``gate_proj``, ``up_proj`` and ``down_proj``, without biases, as Llama and Qwen3.
        levels: Those of every layer; or for each layer its own. The one level of a layer with ``around="nothing"`` takes the pretrained MLP, since the
            layer brings the norm and the residual.
        form: ``"sequential"`` or ``"nested"``; see ``ContinuumMemory``.

    Raises:
        ValueError: The model or the levels do not fit; nothing has been changed.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
        >>> base, words = LlamaForCausalLM(config).eval(), torch.arange(6)[None]
        >>> before = base(words).logits
        >>> stacked = StackedLM(base, (Level(every=16), Level(every=64, around="nothing")))
        >>> torch.equal(stacked(words).logits, before)
        True
    """

    def __init__(self, model: PreTrainedModel, levels: Sequence[Level] | Sequence[Sequence[Level]], *, form: Form = "sequential") -> None:
        super().__init__()
        layers = _layers_of(model)
        each = _of_layers(levels, len(layers))
        memories = [_memory_from(layer.get_submodule("mlp"), own, form) for layer, own in zip(layers, each, strict=True)]
        for layer, memory in zip(layers, memories, strict=True):
            layer.mlp = memory
        self.model = model
        self.train(model.training)

    @property
    def memories(self) -> list[ContinuumMemory]:
        """The memory of each layer."""
        halves = (layer.get_submodule("mlp") for layer in _layers_of(self.model))
        return [half for half in halves if isinstance(half, ContinuumMemory)]

    def start(self, batch: int) -> dict[str, Tensor]:
        """The state before the first token of ``batch`` streams."""
        return self._of_each([memory.start(batch) for memory in self.memories])

    def forward(self, *args: Any, state: Mapping[str, Tensor] | None = None, **kwargs: Any) -> Any:
        """What the model says to ``args`` and ``kwargs`` with the MLPs that are in ``state``; with the slow ones if there is none.

        Raises:
            ValueError: The model would compute its activations anew in the backward pass, where the state is no longer at hand.
        """
        if state is not None and any(getattr(part, "gradient_checkpointing", False) and part.training for part in self.model.modules()):
            raise ValueError("a model that reads with a state keeps its activations; call activation_checkpointing_disable() on the pretrained one.")
        with self._reading(state):
            return self.model(*args, **kwargs)

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights in ``state`` with respect to which the caller takes the gradient of the loss."""
        return self._of_each([memory.weights(own) for memory, own in self._own(state)])

    def room(self, state: Mapping[str, Tensor]) -> Clock:
        """How many tokens each row may read before some level of some layer takes a step."""
        return torch.stack([memory.room(own) for memory, own in self._own(state)]).amin(0)

    def learn(self, state: Mapping[str, Tensor], gradients: Mapping[str, Tensor], tokens: Clock) -> dict[str, Tensor]:
        """The state after ``tokens`` more tokens of each row; see ``ContinuumMemory.learn``."""
        return self._of_each([memory.learn(own, under(gradients, f"{i}/"), tokens) for i, (memory, own) in enumerate(self._own(state))])

    def _own(self, state: Mapping[str, Tensor]) -> list[tuple[ContinuumMemory, dict[str, Tensor]]]:
        return [(memory, under(state, f"{i}/")) for i, memory in enumerate(self.memories)]

    def _of_each(self, parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {path: tensor for i, part in enumerate(parts) for path, tensor in placed(part, f"{i}/").items()}

    @contextmanager
    def _reading(self, state: Mapping[str, Tensor] | None) -> Generator[None, None, None]:
        """Within, each memory is handed its part of the state along with its tokens."""
        with ExitStack() as handed:
            for memory, own in self._own(state) if state is not None else ():
                handle = memory.register_forward_pre_hook(lambda module, args, own=own: (*args, own))
                handed.callback(handle.remove)
            yield


def _layers_of(model: PreTrainedModel) -> list[nn.Module]:
    found = getattr(model.get_decoder(), "layers", None)
    layers = list(found) if isinstance(found, nn.ModuleList) else []
    if not layers or not all(isinstance(getattr(layer, "mlp", None), nn.Module) for layer in layers):
        raise ValueError(f"a stacked model needs a decoder of layers with an mlp each, as Llama's and Qwen3's; got {type(model).__name__}.")
    return layers


def _of_layers(levels: Sequence[Level] | Sequence[Sequence[Level]], count: int) -> list[tuple[Level, ...]]:
    shared = tuple(level for level in levels if isinstance(level, Level))
    each = [tuple(own) for own in levels if not isinstance(own, Level)] or [shared] * count
    if len(each) != count or (shared and len(shared) != len(levels)):
        raise ValueError(
            f"levels are those of every layer, or as many lists as layers, {count}; got {len(shared)} levels and {len(levels) - len(shared)} lists."
        )
    return each


def _memory_from(mlp: nn.Module, levels: tuple[Level, ...], form: Form) -> ContinuumMemory:
    if form == "independent":
        raise ValueError("stacked levels follow each other: form must be 'sequential' or 'nested', got 'independent'.")
    pretrained = [i for i, level in enumerate(levels) if level.around == "nothing"]
    if len(pretrained) != 1:
        raise ValueError(f"one level of a layer takes its pretrained MLP, the one with around='nothing'; got {len(pretrained)} of them.")
    parts = {name: getattr(mlp, f"{name}_proj", None) for name in ("gate", "up", "down")}
    linear = {name: part for name, part in parts.items() if isinstance(part, nn.Linear) and part.bias is None}
    activation = type(getattr(mlp, "act_fn", None)).__name__
    if linear.keys() != parts.keys() or "silu" not in activation.lower():
        raise ValueError(
            f"a stacked model needs MLPs of gate_proj, up_proj and down_proj without biases, with SiLU, as Llama's and Qwen3's; got {type(mlp).__name__} "
            f"with the activation {activation}."
        )
    weight = linear["gate"].weight
    memory = ContinuumMemory(weight.shape[1], weight.shape[0], levels=levels, form=form).to(weight.device, weight.dtype)
    for i in range(len(levels)):
        if i == pretrained[0]:
            for name, part in linear.items():
                memory.set_submodule(f"blocks.{i}.{name}", part)
        else:
            nn.init.zeros_(memory.get_parameter(f"blocks.{i}.down.weight"))
    return memory
