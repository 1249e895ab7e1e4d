"""Ready names for the layers of the TTT paper."""

from retain.memory import presets

from .neural_memory import NeuralMemory


def TTTLinear(dim: int, *, heads: int = 1, update_every: int = 16) -> NeuralMemory:
    """A layer whose memory is a normalised linear map with a residual, learnt by plain gradient steps (TTT section 2.7).

    Args:
        dim: Width of the stream.
        heads: Memories side by side.
        update_every: TTT's mini-batch.

    Examples:
        >>> import torch
        >>> y, state = TTTLinear(16, heads=2)(torch.randn(1, 20, 16))
    """
    return NeuralMemory(dim, heads=heads, rule=presets.ttt_linear(update_every=update_every))


def TTTMLP(dim: int, *, heads: int = 1, update_every: int = 16) -> NeuralMemory:
    """A layer whose memory is a two-layer perceptron, normalised, with a residual, learnt by plain gradient steps (TTT section 2.7).

    Args:
        dim: Width of the stream.
        heads: Memories side by side.
        update_every: TTT's mini-batch.

    Examples:
        >>> import torch
        >>> y, state = TTTMLP(16, heads=2)(torch.randn(1, 20, 16))
    """
    return NeuralMemory(dim, heads=heads, rule=presets.ttt_mlp(update_every=update_every))
