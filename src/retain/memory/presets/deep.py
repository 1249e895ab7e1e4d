"""Memories that are networks: TTT, Titans, TNT and ATLAS."""

from retain.core.contracts import AbstractLearner
from retain.core.rule import MemoryRule
from retain.memory.bias import L2, Omega
from retain.memory.learner import Gradient, Momentum, Orthogonal
from retain.memory.retention import Decay, Keep
from retain.memory.structure import MLP, NormResidual


def ttt_linear(*, update_every: int = 16) -> MemoryRule:
    """TTT-Linear, $M(x) = x + \\mathrm{LN}(x W)$ with gradient steps at the last mini-batch's weights (TTT equation 6).

    Source: Sun et al. 2024, Learning to (Learn at Test Time) (arXiv:2407.04620).

    Args:
        update_every: TTT's mini-batch.

    Examples:
        >>> ttt_linear().structure.inner
        MLP(depth=1, expansion=4.0, activation='gelu')
    """
    return MemoryRule(structure=NormResidual(inner=MLP(depth=1)), bias=L2(), retention=Keep(), learner=Gradient(), update_every=update_every)


def ttt_mlp(*, update_every: int = 16) -> MemoryRule:
    """TTT-MLP, $M(x) = x + \\mathrm{LN}(\\mathrm{gelu}(x W_0) W_1)$ with hidden width 4 d (TTT section 2.7).

    Source: Sun et al. 2024, Learning to (Learn at Test Time) (arXiv:2407.04620).

    Args:
        update_every: TTT's mini-batch.

    Examples:
        >>> ttt_mlp().structure.inner.depth
        2
    """
    return MemoryRule(structure=NormResidual(inner=MLP()), bias=L2(), retention=Keep(), learner=Gradient(), update_every=update_every)


def titans(*, depth: int = 2, expansion: float = 4.0, update_every: int | None = 64, step_every: int = 1) -> MemoryRule:
    """Titans' long-term memory: a deep memory, surprise with momentum, and forgetting (Titans equations 13 to 15).

    Source: Behrouz et al. 2024, Titans: Learning to Memorize at Test Time (arXiv:2501.00663).

    Args:
        depth: Layers of the memory network.
        expansion: Its hidden width over the width of a head.
        update_every: Titans' chunk $b$; None anchors the gradients at the initial weights.
        step_every: Tokens that share one inner step.

    Examples:
        >>> titans(depth=1).learner
        Momentum(order=1, mix='last')
    """
    structure = NormResidual(inner=MLP(depth=depth, expansion=expansion))
    return MemoryRule(structure=structure, bias=L2(), retention=Decay(), learner=Momentum(), update_every=update_every, step_every=step_every)


def tnt(*, chunk: int = 2048) -> MemoryRule:
    """The global memory of TNT: a step per chunk, and a chunk's tokens read the memory as it stood when the chunk began (TNT equations 5 and 7).

    The paper's inner learner is plain gradient descent; its memory network is open. Ours is a perceptron without a residual: local memories are asked with
    projected queries, whose length grows with the tokens of a shard, and a residual would drown in them what was learnt.

    Source: TNT: Improving Chunkwise Training for Test-Time Memorization (arXiv:2511.07343).

    Args:
        chunk: TNT's $C_G$.

    Examples:
        >>> tnt(chunk=16).reads
        'before'
    """
    return MemoryRule(structure=MLP(), bias=L2(), retention=Keep(), learner=Gradient(), update_every=chunk, step_every=chunk, reads="before")


def omega_net(*, depth: int = 2, expansion: float = 4.0, window: int = 4, update_every: int = 16) -> MemoryRule:
    """OmegaNet: each step holds a window of tokens (ATLAS equation 10).

    The paper's keys and queries go through polynomial features: ``Projections(features=Polynomial())``.

    Source: Behrouz et al. 2025, ATLAS (arXiv:2505.23735).

    Args:
        depth: Layers of the memory network.
        expansion: Its hidden width over the width of a head.
        window: Tokens that each step sees, the paper's $c$.
        update_every: Its chunk $b$.

    Examples:
        >>> omega_net().bias.window
        4
    """
    return _atlas(Gradient(), depth, expansion, window, update_every)


def atlas(*, depth: int = 2, expansion: float = 4.0, window: int = 4, update_every: int = 16) -> MemoryRule:
    """ATLAS: each step holds a window of tokens, and moves by momentum made orthogonal (ATLAS equations 32 and 33).

    The paper's keys and queries go through polynomial features: ``Projections(features=Polynomial())``.

    Source: Behrouz et al. 2025, ATLAS (arXiv:2505.23735).

    Args:
        depth: Layers of the memory network.
        expansion: Its hidden width over the width of a head.
        window: Tokens that each step sees, the paper's $c$.
        update_every: Its chunk $b$.

    Examples:
        >>> atlas().learner.inner
        Momentum(order=1, mix='last')
    """
    return _atlas(Orthogonal(inner=Momentum()), depth, expansion, window, update_every)


def _atlas(learner: AbstractLearner, depth: int, expansion: float, window: int, update_every: int) -> MemoryRule:
    """A rule around an MLP whose keys may be wider than its values, so without a residual."""
    structure, bias = MLP(depth=depth, expansion=expansion), Omega(inner=L2(scale=1.0), window=window)
    return MemoryRule(structure=structure, bias=bias, retention=Decay(), learner=learner, update_every=update_every)
