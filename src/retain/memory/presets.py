"""Named rules. Each composes the parts; none branches."""

from retain.core.contracts import AbstractBias, AbstractRetention
from retain.core.rule import MemoryRule

from .bias import L2, Dot, Huber, Lp
from .learner import Gradient, Momentum
from .retention import KL, Decay, Keep, Lq
from .structure import MLP, Matrix, NormResidual


def linear_attention() -> MemoryRule:
    """Linear attention, $M_t = M_{t-1} + v_t k_t^\\top$ (Titans equations 4 and 5).

    Examples:
        >>> linear_attention().bias
        Dot()
    """
    return MemoryRule(structure=Matrix(), bias=Dot(), retention=Keep(), learner=Gradient(), update_every=1)


def retnet() -> MemoryRule:
    """RetNet, $M_t = \\alpha M_{t-1} + v_t k_t^\\top$ (MIRAS equation 8).

    Examples:
        >>> retnet().retention
        Decay(grad_at='previous')
    """
    return MemoryRule(structure=Matrix(), bias=Dot(), retention=Decay(), learner=Gradient(), update_every=1)


def delta_net() -> MemoryRule:
    """DeltaNet, $M_t = M_{t-1}(I - \\theta_t k_t k_t^\\top) + \\theta_t v_t k_t^\\top$ (Titans equation 34).

    Examples:
        >>> delta_net().bias
        L2(scale=0.5)
    """
    return MemoryRule(structure=Matrix(), bias=L2(), retention=Keep(), learner=Gradient(), update_every=1)


def gated_delta_net() -> MemoryRule:
    """Gated DeltaNet, $M_t = \\alpha_t M_{t-1}(I - \\theta_t k_t k_t^\\top) + \\theta_t v_t k_t^\\top$ (MIRAS Table 1).

    Examples:
        >>> gated_delta_net().retention
        Decay(grad_at='decayed')
    """
    return MemoryRule(structure=Matrix(), bias=L2(), retention=Decay(grad_at="decayed"), learner=Gradient(), update_every=1)


def ttt_linear(*, update_every: int = 16) -> MemoryRule:
    """TTT-Linear, $M(x) = x + \\mathrm{LN}(x W)$ with gradient steps at the last mini-batch's weights (TTT equation 6).

    Args:
        update_every: TTT's mini-batch.

    Examples:
        >>> ttt_linear().structure.inner
        MLP(depth=1, expansion=4.0, activation='gelu')
    """
    return MemoryRule(structure=NormResidual(inner=MLP(depth=1)), bias=L2(), retention=Keep(), learner=Gradient(), update_every=update_every)


def ttt_mlp(*, update_every: int = 16) -> MemoryRule:
    """TTT-MLP, $M(x) = x + \\mathrm{LN}(\\mathrm{gelu}(x W_0) W_1)$ with hidden width 4 d (TTT section 2.7).

    Args:
        update_every: TTT's mini-batch.

    Examples:
        >>> ttt_mlp().structure.inner.depth
        2
    """
    return MemoryRule(structure=NormResidual(inner=MLP()), bias=L2(), retention=Keep(), learner=Gradient(), update_every=update_every)


def titans(*, depth: int = 2, expansion: float = 4.0, update_every: int | None = 64, step_every: int = 1) -> MemoryRule:
    """Titans' long-term memory: a deep memory, surprise with momentum, and forgetting (Titans equations 13 to 15).

    Args:
        depth: Layers of the memory network.
        expansion: Its hidden width over the width of a head.
        update_every: Titans' chunk $b$; None anchors the gradients at the initial weights.
        step_every: Tokens that share one inner step.

    Examples:
        >>> titans(depth=1).learner
        Momentum(order=1, mix='last')
    """
    return MemoryRule(
        structure=NormResidual(inner=MLP(depth=depth, expansion=expansion)),
        bias=L2(),
        retention=Decay(),
        learner=Momentum(),
        update_every=update_every,
        step_every=step_every,
    )


def tnt(*, chunk: int = 2048) -> MemoryRule:
    """The global memory of TNT: a step per chunk, and a chunk's tokens read the memory as it stood when the chunk began (TNT equations 5 and 7).

    The paper's inner learner is plain gradient descent; its memory network is open. Ours is a perceptron without a residual: local memories are asked with
    projected queries, whose length grows with the tokens of a shard, and a residual would drown in them what was learnt.

    Args:
        chunk: TNT's $C_G$.

    Examples:
        >>> tnt(chunk=16).reads
        'before'
    """
    return MemoryRule(structure=MLP(), bias=L2(), retention=Keep(), learner=Gradient(), update_every=chunk, step_every=chunk, reads="before")


def moneta(*, p: float = 3.0, q: float = 4.0, update_every: int = 16) -> MemoryRule:
    """Moneta: powers of the error are held, and the stability of a norm lets go (MIRAS equation 24).

    Args:
        p: Of the attentional bias.
        q: Of the retention gate.
        update_every: MIRAS' chunk $b$.

    Examples:
        >>> moneta().bias
        Lp(p=3.0, surrogate='consistent', eps=1e-06, steepness=100.0)
    """
    return _miras(Lp(p=p, surrogate="consistent"), Lq(q=q), update_every)


def yaad(*, threshold: float = 1.0, update_every: int = 16) -> MemoryRule:
    """Yaad: small errors are held as squares, large ones by their sign, at a threshold that each token sets (MIRAS equation 26).

    Args:
        threshold: What a token's threshold is a multiple of.
        update_every: MIRAS' chunk $b$.

    Examples:
        >>> yaad().bias.kind
        'mixture'
    """
    return _miras(Huber(kind="mixture", threshold=threshold, scaled="by token"), Decay(), update_every)


def memora(*, update_every: int = 16) -> MemoryRule:
    """Memora: weights are shares, which learn at the cost of each other (MIRAS equation 27).

    Args:
        update_every: MIRAS' chunk $b$.

    Examples:
        >>> memora().retention
        KL(total=1.0, over='slice')
    """
    return _miras(L2(), KL(), update_every)


def _miras(bias: AbstractBias, retention: AbstractRetention, update_every: int) -> MemoryRule:
    """A rule around the memory of MIRAS section 5.4, $M(x) = x + \\mathrm{LN}(W_1 \\mathrm{gelu}(W_2 x))$ with a hidden width of 4 d."""
    return MemoryRule(structure=NormResidual(inner=MLP()), bias=bias, retention=retention, learner=Gradient(), update_every=update_every)
