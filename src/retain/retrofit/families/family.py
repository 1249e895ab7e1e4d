"""How one family of pretrained models shows its decoder layers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class Family:
    """Where in a model of this family a memory branch is put.

    A family fits if each decoder layer adds the first thing that its attention returns to the stream: ``h = h + self_attn(norm(h), ...)[0]``, and hands
    keyword arguments that it does not know down to it.

    Args:
        model_type: ``config.model_type`` of its models.
        layers: The decoder's list of layers.
        attention: The attention of a layer.

    Examples:
        >>> Family(model_type="llama").attention
        'self_attn'
    """

    model_type: str
    layers: str = "layers"
    attention: str = "self_attn"

    def layers_of(self, model: PreTrainedModel) -> nn.ModuleList:
        """The decoder layers of a model."""
        layers = model.get_decoder().get_submodule(self.layers)
        assert isinstance(layers, nn.ModuleList)
        return layers

    def attentions(self, model: PreTrainedModel) -> list[nn.Module]:
        """The attention modules of a model, from the first layer to the last."""
        return [layer.get_submodule(self.attention) for layer in self.layers_of(model)]
