"""Recomputing layers in the backward pass, of models whose layers hand memories on."""

from __future__ import annotations

from typing import Any


class Checkpointed:
    """A model that recomputes its layers in the one way that leaves the gradients of memories right."""

    def _set_gradient_checkpointing(self, enable: bool = True, **how: Any) -> None:
        if enable:
            refuse_reentrant(how.get("gradient_checkpointing_func"))
        base: Any = super()
        base._set_gradient_checkpointing(enable=enable, **how)


def refuse_reentrant(function: Any) -> None:
    """Memories go from layer to layer beside the stream, where the reentrant way of checkpointing sees no gradient.

    Raises:
        ValueError: The function is not told ``use_reentrant=False``.
    """
    if getattr(function, "keywords", {}).get("use_reentrant") is not False:
        raise ValueError(
            "reentrant checkpointing of activations gives the weights of memories wrong gradients, without a word. Cure: "
            'model.activation_checkpointing_enable({"use_reentrant": False}), or no arguments at all.'
        )
