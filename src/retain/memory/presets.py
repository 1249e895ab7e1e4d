"""Named rules. Each composes the parts; none branches."""

from typing import Literal

from retain.core.contracts import AbstractBias, AbstractLearner, AbstractRetention
from retain.core.rule import MemoryRule

from .bias import L2, Dot, Huber, Lp, Omega, Transposed
from .learner import Gradient, Implicit, InTurn, LeastSquares, Momentum, Orthogonal
from .learner import PerChannel as LearnPerChannel
from .retention import KL, Boundary, ChannelDecay, Decay, Keep, Lq, OuterDecay
from .retention import PerChannel as KeepPerChannel
from .structure import MLP, Matrix, NormResidual

_Gates = Literal["head", "channel"]


def linear_attention() -> MemoryRule:
    """Linear attention, $M_t = M_{t-1} + v_t k_t^\\top$ (Titans equations 4 and 5).

    Source: Katharopoulos et al. 2020, Transformers are RNNs (arXiv:2006.16236).

    Examples:
        >>> linear_attention().bias
        Dot()
    """
    return _linear(Dot(), Keep())


def retnet() -> MemoryRule:
    """RetNet, $M_t = a M_{t-1} + v_t k_t^\\top$ (MIRAS equation 8).

    RetNet's $a$ is one number for each head, whatever the token.
    Source: Sun et al. 2023, Retentive Network (arXiv:2307.08621).

    Examples:
        >>> retnet().retention
        Decay(grad_at='previous')
    """
    return _linear(Dot(), Decay())


def lightning_attention() -> MemoryRule:
    """Lightning attention, $M_t = a M_{t-1} + v_t k_t^\\top$ (MIRAS equation 8).

    RetNet's recurrence; here $a$ is learnt, one number for each head.
    Source: Qin et al. 2024, Lightning Attention-2 (arXiv:2401.04658).

    Examples:
        >>> lightning_attention() == retnet()
        True
    """
    return _linear(Dot(), Decay())


def mamba2() -> MemoryRule:
    """Mamba-2, $M_t = a_t M_{t-1} + v_t k_t^\\top$ (MIRAS equation 8).

    RetNet's recurrence; here $a_t$ is a function of the token.
    Source: Dao and Gu 2024, Transformers are SSMs (arXiv:2405.21060).

    Examples:
        >>> mamba2() == retnet()
        True
    """
    return _linear(Dot(), Decay())


def gla() -> MemoryRule:
    """Gated linear attention, $M_t = M_{t-1}\\,\\mathrm{Diag}(a_t) + v_t k_t^\\top$ (MIRAS Table 1).

    Source: Yang et al. 2023, Gated Linear Attention Transformers (arXiv:2312.06635).

    Examples:
        >>> gla().retention
        ChannelDecay(grad_at='previous')
    """
    return _linear(Dot(), ChannelDecay())


def hgrn2() -> MemoryRule:
    """HGRN2, $M_t = M_{t-1}\\,\\mathrm{Diag}(a_t) + v_t (1 - a_t)^\\top$ (MIRAS Table 1).

    Gated linear attention whose keys are what is let go, $k_t = 1 - a_t$: whoever makes the keys makes them so.
    Source: Qin et al. 2024, HGRN2 (arXiv:2404.07904).

    Examples:
        >>> hgrn2() == gla()
        True
    """
    return _linear(Dot(), ChannelDecay())


def decaying_fast_weights() -> MemoryRule:
    """Decaying fast weights, $M_t = (\\beta_t \\alpha_t^\\top) \\odot M_{t-1} + v_t k_t^\\top$ (MIRAS Table 1).

    Source: Mao 2022, Fine-Tuning Pre-trained Transformers into Decaying Fast Weights (arXiv:2210.04243).

    Examples:
        >>> decaying_fast_weights().retention
        OuterDecay(grad_at='previous')
    """
    return _linear(Dot(), OuterDecay())


def delta_net() -> MemoryRule:
    """DeltaNet, $M_t = M_{t-1}(I - \\theta_t k_t k_t^\\top) + \\theta_t v_t k_t^\\top$ (Titans equation 34).

    Source: Schlag et al. 2021 (arXiv:2102.11174); Yang et al. 2024, Parallelizing Linear Transformers with the Delta Rule (arXiv:2406.06484).

    Examples:
        >>> delta_net().bias
        L2(scale=0.5)
    """
    return _linear(L2(), Keep())


def gated_delta_net() -> MemoryRule:
    """Gated DeltaNet, $M_t = a_t M_{t-1}(I - \\theta_t k_t k_t^\\top) + \\theta_t v_t k_t^\\top$ (MIRAS Table 1).

    Source: Yang et al. 2024, Gated Delta Networks (arXiv:2412.06464).

    Examples:
        >>> gated_delta_net().retention
        Decay(grad_at='decayed')
    """
    return _linear(L2(), Decay(grad_at="decayed"))


def oja() -> MemoryRule:
    """Oja's rule with a decay, $M_t = a_t M_{t-1} + \\theta_t v_t (k_t - M_{t-1}^\\top v_t)^\\top$ (Nested Learning equation 66, corrected).

    Source: Oja 1982, A simplified neuron model as a principal component analyzer (Journal of Mathematical Biology 15).

    Examples:
        >>> oja().bias
        Transposed(inner=L2(scale=0.5))
    """
    return _linear(Transposed(), Decay())


def rwkv7() -> MemoryRule:
    """RWKV-7, $M_t = M_{t-1}(\\mathrm{Diag}(a_t) - \\theta_t k_t k_t^\\top) + \\theta_t v_t k_t^\\top$.

    As in its own paper the gradient is taken at the memory before it decays, with one key to write and to take away, and one rate; MIRAS Table 1 prints
    the decay in front of both.

    Source: Peng et al. 2025, RWKV-7 (arXiv:2503.14456).

    Examples:
        >>> rwkv7().retention
        ChannelDecay(grad_at='previous')
    """
    return _linear(L2(), ChannelDecay())


def longhorn() -> MemoryRule:
    """Longhorn, $M_t = M_{t-1}(I - \\delta_t k_t k_t^\\top) + \\delta_t v_t k_t^\\top$ with $\\delta_t = \\theta_t / (1 + \\theta_t k_t^\\top k_t)$ (Titans equation 35).

    Source: Liu et al. 2024, Longhorn (arXiv:2407.14207).

    Examples:
        >>> longhorn().learner
        Implicit()
    """
    return _linear(L2(), Keep(), Implicit())


def delta_product() -> MemoryRule:
    """DeltaProduct, $M_t = a_t M_{t-1} \\prod_j (I - \\theta_j k_j k_j^\\top) + \\ldots$: a step for each of a token's associations (MIRAS Table 1).

    How many there are says ``Projections(pairs=)``.
    Source: Siems et al. 2025, DeltaProduct (arXiv:2502.10297).

    Examples:
        >>> delta_product().learner
        InTurn(inner=Gradient())
    """
    return _linear(L2(), Decay(grad_at="decayed"), InTurn())


def mesa() -> MemoryRule:
    """The Mesa layer, $M_t = \\arg\\min_M \\sum_{i \\le t} \\lVert M k_i - v_i \\rVert^2 + \\lambda \\lVert M - M_0 \\rVert^2$ (MIRAS section 4).

    Source: von Oswald et al. 2023, Uncovering mesa-optimization algorithms in Transformers (arXiv:2309.05858).

    Examples:
        >>> mesa().learner
        LeastSquares(ridge=1.0)
    """
    return _linear(L2(), Keep(), LeastSquares())


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


def _linear(bias: AbstractBias, retention: AbstractRetention, learner: AbstractLearner = Gradient()) -> MemoryRule:  # noqa: B008  a frozen value
    """A rule around a matrix whose every gradient is taken at the newest memory."""
    return MemoryRule(structure=Matrix(), bias=bias, retention=retention, learner=learner, update_every=1)


def _atlas(learner: AbstractLearner, depth: int, expansion: float, window: int, update_every: int) -> MemoryRule:
    """A rule around an MLP whose keys may be wider than its values, so without a residual."""
    structure, bias = MLP(depth=depth, expansion=expansion), Omega(inner=L2(scale=1.0), window=window)
    return MemoryRule(structure=structure, bias=bias, retention=Decay(), learner=learner, update_every=update_every)


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
