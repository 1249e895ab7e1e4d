"""Matrix memories: linear attention, the delta rule, and what came of them."""

from retain.core.contracts import AbstractBias, AbstractLearner, AbstractRetention
from retain.core.rule import MemoryRule
from retain.memory.bias import L2, Dot, Transposed
from retain.memory.learner import Gradient, Implicit, InTurn, LeastSquares
from retain.memory.retention import ChannelDecay, Decay, Keep, OuterDecay
from retain.memory.structure import Matrix


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


def _linear(bias: AbstractBias, retention: AbstractRetention, learner: AbstractLearner = Gradient()) -> MemoryRule:  # noqa: B008  a frozen value
    """A rule around a matrix whose every gradient is taken at the newest memory."""
    return MemoryRule(structure=Matrix(), bias=bias, retention=retention, learner=learner, update_every=1)
