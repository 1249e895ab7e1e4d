"""The three models of MIRAS."""

from typing import Literal

from retain.core.contracts import AbstractBias, AbstractRetention
from retain.core.rule import MemoryRule
from retain.memory.bias import L2, Huber, Lp
from retain.memory.learner import Gradient
from retain.memory.learner import PerChannel as LearnPerChannel
from retain.memory.retention import KL, Boundary, ChannelDecay, Decay, Lq
from retain.memory.retention import PerChannel as KeepPerChannel
from retain.memory.structure import MLP, NormResidual

_Gates = Literal["head", "channel"]


def moneta(
    *, p: float = 3.0, q: float = 4.0, update_every: int = 16, exposed: Literal["token", "boundary"] = "token", gates: _Gates = "head"
) -> MemoryRule:
    """Moneta: powers of the error are held, and the stability of a norm lets go (MIRAS equation 24).

    Source: Behrouz et al. 2025, It's All Connected (MIRAS, arXiv:2504.13173).

    Args:
        p: Of the attentional bias.
        q: Of the retention gate.
        update_every: MIRAS' chunk $b$.
        exposed: Whether the norm is divided by at every ``"token"``, or at every ``"boundary"``, as in the paper's section 5.4, which is much faster.
        gates: Whether what is learnt and kept is told by one number a ``"head"``, which with links at boundaries the dual engine runs, or by one a
            ``"channel"``, as in the paper's section 5.4; see ``LowRankGates``.

    Raises:
        ValueError: ``exposed`` or ``gates`` is unknown, or they do not go together.

    Examples:
        >>> moneta().bias
        Lp(p=3.0, surrogate='consistent', eps=1e-06, steepness=100.0)
    """
    return _miras(Lp(p=p, surrogate="consistent"), _exposed(Lq(q=q), exposed, gates), update_every, gates)


def yaad(*, threshold: float = 1.0, update_every: int = 16, gates: _Gates = "head") -> MemoryRule:
    """Yaad: small errors are held as squares, large ones by their sign, at a threshold that each token sets (MIRAS equation 26).

    With a threshold for each channel each coordinate of the error is judged by itself (MIRAS equation 14): equation 26 judges the norm of the error,
    and a norm has no channels.

    Source: Behrouz et al. 2025, It's All Connected (MIRAS, arXiv:2504.13173).

    Args:
        threshold: What a token's threshold is a multiple of.
        update_every: MIRAS' chunk $b$.
        gates: Whether what is learnt, kept and borne is told by one number a ``"head"``, which the dual engine runs, or by one a ``"channel"``, as in the
            paper's section 5.4; see ``LowRankGates``.

    Raises:
        ValueError: ``gates`` is unknown.

    Examples:
        >>> yaad().bias.kind
        'mixture'
    """
    if gates == "channel":
        return _miras(Huber(kind="coordinate", threshold=threshold, scaled="by channel"), ChannelDecay(), update_every, gates)
    return _miras(Huber(kind="mixture", threshold=threshold, scaled="by token"), Decay(), update_every, gates)


def memora(*, update_every: int = 16, exposed: Literal["token", "boundary"] = "token", gates: _Gates = "head") -> MemoryRule:
    """Memora: weights are shares, which learn at the cost of each other (MIRAS equation 27).

    Where shares start is open in the paper; with logarithms nearer to each other than ours a trained model stayed at chance on associative recall.

    Source: Behrouz et al. 2025, It's All Connected (MIRAS, arXiv:2504.13173).

    Args:
        update_every: MIRAS' chunk $b$.
        exposed: Whether the softmax is taken at every ``"token"``, or at every ``"boundary"``, which is much faster; see ``Boundary``.
        gates: Whether what is learnt and kept is told by one number a ``"head"``, which with links at boundaries the dual engine runs, or by one a
            ``"channel"``, as in the paper's section 5.4; see ``LowRankGates``.

    Raises:
        ValueError: ``exposed`` or ``gates`` is unknown, or they do not go together.

    Examples:
        >>> memora().retention
        KL(total=1.0, over='slice', contrast=3.0)
    """
    return _miras(L2(), _exposed(KL(contrast=3.0), exposed, gates), update_every, gates)


def _exposed(link: AbstractRetention, when: Literal["token", "boundary"], gates: _Gates) -> AbstractRetention:
    if when not in ("token", "boundary"):
        raise ValueError(f"exposed must be 'token' or 'boundary', got {when!r}.")
    if gates == "head":
        return link if when == "token" else Boundary(inner=link)
    if when == "boundary":
        raise ValueError(f"exposed='boundary' needs gates='head', one number for the whole accumulator, got {gates!r}. Use exposed='token'.")
    return KeepPerChannel(inner=link)


def _miras(bias: AbstractBias, retention: AbstractRetention, update_every: int, gates: _Gates) -> MemoryRule:
    """A rule around the memory of MIRAS section 5.4, $M(x) = x + \\mathrm{LN}(W_1 \\mathrm{gelu}(W_2 x))$ with a hidden width of 4 d."""
    if gates not in ("head", "channel"):
        raise ValueError(f"gates must be 'head' or 'channel', got {gates!r}.")
    learner = Gradient() if gates == "head" else LearnPerChannel(inner=Gradient())
    return MemoryRule(structure=NormResidual(inner=MLP()), bias=bias, retention=retention, learner=learner, update_every=update_every)
