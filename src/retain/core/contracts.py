"""What a memory is made of: the four choices of a rule, how a structure speaks of its weights, and what an engine promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .shapes import Params
from .trees import each

if TYPE_CHECKING:
    from .rule import MemoryRule
    from .tokens import Step


class AbstractReader(ABC):
    """The vocabulary in which a structure speaks of its weights. All else in a read is token-wise torch.

    A structure written in these words is run by several interpreters: plainly, recording what its gradient is made of, and reading weights that
    were never written out.
    """

    @abstractmethod
    def linear(self, name: str, x: Tensor) -> Tensor:
        """``x @ W``: ``x`` is [..., tokens, in], the weight ``name`` is [..., in, out]."""

    @abstractmethod
    def scale(self, name: str, x: Tensor) -> Tensor:
        """``x * w``: the weight ``name`` is [..., width]."""

    @abstractmethod
    def shift(self, name: str, x: Tensor) -> Tensor:
        """``x + w``: the weight ``name`` is [..., width]."""

    def activate(self, name: str, x: Tensor) -> Tensor:
        """The non-linearity of that name in ``torch.nn.functional``."""
        return getattr(F, name)(x)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """``softmax(scale * q @ k^T) @ v``, where each token sees itself and those before it among the tokens that are read together."""
        raise TypeError("tokens see each other where weights are written out alone; use the engine 'materialised' or 'recurrent'.")


class AbstractStructure(ABC):
    """What the memory is: a small network whose weights are rewritten while it reads."""

    @property
    def factored(self) -> bool:
        """Whether ``read`` speaks of its weights in the reader's words alone, token by token, so that gradients come as factors."""
        return True

    @abstractmethod
    def init(self, heads: int, key_dim: int, value_dim: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Fresh weights, one memory for each head: each tensor [heads, ...]."""

    @abstractmethod
    def read(self, weights: AbstractReader, x: Tensor) -> Tensor:
        """Outputs [..., tokens, value] for inputs [..., tokens, key]. Pure; mixes tokens in ``weights.attend`` alone."""

    def company(self, params: Params) -> int:
        """Width of the keys if tokens that are read together see each other, which ``read`` says by ``weights.attend``; 0 if each is read by itself."""
        return 0

    @abstractmethod
    def rate_bound(self, key_dim: int) -> float:
        """About the largest inner rate, for the half squared loss and no momentum, at which a memory fresh from ``init`` bears one key of length one,
        seen again and again."""


class AbstractMatrix(AbstractStructure):
    """A structure that is one linear map and nothing else: ``read`` is ``weights.linear(weight, x)``."""

    weight: str = "w"


class AbstractBias(ABC):
    """The attentional bias: what the memory is asked to hold."""

    @property
    def gate(self) -> Literal["none", "token", "channel"]:
        """Whether each token brings a ``threshold`` gate: none, one number, or one a channel of its value."""
        return "none"

    @property
    def window(self) -> int:
        """How many tokens, each token with those before it, the memory is asked to hold by each token's step."""
        return 1

    @property
    def single(self) -> AbstractBias:
        """The bias of each of them."""
        return self

    @property
    def transposed(self) -> bool:
        """Whether it is the transpose of the memory that is judged, asked for the key by the value."""
        return False

    def why_not(self, rule: MemoryRule) -> str | None:
        """None if the bias has a meaning in a rule of these choices, else a sentence that says why not."""
        return None

    def at(self, threshold: Tensor) -> AbstractBias:
        """The bias for tokens with these thresholds [..., tokens, 1 or value]."""
        return self

    @abstractmethod
    def loss(self, y: Tensor, v: Tensor) -> Tensor:
        """One number for each token: [..., tokens] from [..., tokens, value]."""

    def grad(self, y: Tensor, v: Tensor) -> Tensor:
        """Gradient of ``loss`` at ``y``. Overriding it is a claim about speed that the laws hold against autograd."""
        return torch.func.grad(lambda at: self.loss(at, v).sum())(y)


class AbstractAffineBias(AbstractBias):
    """A bias whose gradient is affine in the prediction: ``grad(y, v) = slope * y - pull * v``."""

    @property
    @abstractmethod
    def slope(self) -> float:
        """What multiplies the prediction."""

    @property
    @abstractmethod
    def pull(self) -> float:
        """What multiplies the value."""


class AbstractRetention(ABC):
    """The retention gate: what the memory lets go. An accumulator ``A`` is kept; the weights are what it exposes.

    Methods that look at whole weights are told how many axes of their tensors count memories: ``lead``, two for [batch, heads, ...].
    """

    grad_at: Literal["previous", "decayed"] = "previous"

    def why_not(self, update_every: int | None) -> str | None:
        """None if the gate has a meaning with boundaries this far apart, else a sentence that says why not."""
        if self.grad_at not in ("previous", "decayed"):
            return f"grad_at must be 'previous' or 'decayed', got {self.grad_at!r}."
        if self.grad_at == "decayed" and update_every != 1:
            return (
                f"gradients at the decayed memory need update_every=1, got {update_every}: between boundaries the memory that decays is not the one "
                "whose gradient is taken. Use grad_at='previous'."
            )
        return None

    @property
    def gate(self) -> Literal["none", "head", "channel", "outer"]:
        """Whether each step brings a ``retain`` gate: none, one number a head, one a channel of the head, or one a channel of keys and of values."""
        return "none"

    @property
    def linear(self) -> bool:
        """Whether a step multiplies the accumulator by one number, the gate, if there is one, and adds to it, whatever is exposed."""
        return False

    def start(self, params: Params, lead: int = 2) -> Params:
        """The accumulator of a memory that begins from ``params``. It exposes them, or, where not all weights can be, what the gate makes of them."""
        return params

    @abstractmethod
    def keep(self, accumulator: Params, step: Step) -> Params:
        """What is left of the accumulator after one step of forgetting."""

    def moved(self, accumulator: Params, delta: Params, step: Step, lead: int = 2) -> Params:
        """The accumulator after a step that adds ``delta`` to what is kept."""
        return each(torch.add, self.keep(accumulator, step), delta)

    def expose(self, accumulator: Params, lead: int = 2) -> Params:
        """The weights that an accumulator stands for."""
        return accumulator

    def canonical(self, accumulator: Params, lead: int = 2) -> Params:
        """The accumulator as the weights that it exposes say it, where it is these that are let go by the formula; else as it is. See ``KL``."""
        return accumulator

    def frozen(self, anchor: Params, lead: int = 2) -> Params | None:
        """If what is exposed is the accumulator times a number for each tensor, these numbers at ``anchor``, with axes of length one behind them."""
        return None

    def read(self, accumulator: Params, anchor: Params, lead: int = 2) -> Params:
        """The weights that are read between boundaries, given the accumulators of now and of the last boundary."""
        return self.expose(accumulator, lead)

    def gradient_point(self, anchor: Params, step: Step) -> Params:
        """The weights at which a token's gradient is taken, given those exposed at the last boundary."""
        return anchor if self.grad_at == "previous" else self.keep(anchor, step)


class AbstractScalarRetention(AbstractRetention):
    """Retention that multiplies the whole accumulator by one number a step, and exposes it as it is."""

    @property
    def linear(self) -> bool:
        return True

    @abstractmethod
    def ratio(self, retain: Tensor | None, like: Tensor) -> Tensor:
        """The factor of each step, shaped like ``like``."""


class AbstractBoundaryRetention(AbstractRetention):
    """Retention that multiplies the whole accumulator by one number a step, and exposes it anew at boundaries alone."""

    @abstractmethod
    def ratio(self, retain: Tensor | None, like: Tensor) -> Tensor:
        """The factor of each step, shaped like ``like``."""

    def read(self, accumulator: Params, anchor: Params, lead: int = 2) -> Params:
        frozen = self.frozen(anchor, lead)
        return self.expose(anchor, lead) if frozen is None else each(torch.mul, accumulator, frozen)


class AbstractChannelRetention(AbstractRetention):
    """Retention that multiplies each row of a matrix memory (a channel of the keys) by a number of its own, and exposes it as it is."""

    @abstractmethod
    def ratio(self, retain: Tensor | None) -> Tensor:
        """The factors of each step [..., channels]."""


class AbstractOuterRetention(AbstractRetention):
    """Retention that multiplies each entry of a matrix memory by a number of its row and one of its column, and exposes it as it is."""

    @abstractmethod
    def ratios(self, retain: Tensor | None, rows: int) -> tuple[Tensor, Tensor]:
        """The factors of each step for the ``rows`` [..., rows], and for the columns [..., columns]."""


class Response(NamedTuple):
    """A linear learner over n steps, as matrices: what each step adds to the accumulator, and the moments after the last step."""

    delta_from_updates: Tensor  # [..., n, n]
    delta_from_moments: Tensor  # [..., n, m]
    moments_from_updates: Tensor  # [..., m, n]
    moments_from_moments: Tensor  # [..., m, m]


class AbstractLearner(ABC):
    """The learning algorithm: how the memory moves."""

    @property
    def moments(self) -> int:
        """Copies of the weights that it keeps, each with a ``momentum`` gate."""
        return 0

    def why_not(self, rule: MemoryRule) -> str | None:
        """None if the learner has a meaning in a rule of these choices and clocks, else a sentence that says why not."""
        return None

    def start(self, params: Params) -> tuple[Params, ...]:
        """The moments before the first step."""
        return tuple(each(torch.zeros_like, params) for _ in range(self.moments))

    @property
    def curved(self) -> bool:
        """Whether each step brings the loss' ``curvature``."""
        return False

    @property
    def in_turn(self) -> bool:
        """Whether a token's associations are learnt one after the other, each in a step of its own."""
        return False

    @property
    def single(self) -> AbstractLearner:
        """The learner of each of these steps."""
        return self

    def effective(self, lr: Tensor, k: Tensor, bias: AbstractBias) -> Tensor:
        """The rates [..., pairs] that steps with rates ``lr`` come to, for keys [..., pairs, key]."""
        return lr

    @property
    def mixed(self) -> int:
        """Weights of its ``mix`` gate; 0 if it has none."""
        return 0

    @property
    def scale_max(self) -> float:
        """The most that a ``scales`` gate, by which the update of each weight is multiplied first of all, may say; 0 if there is none."""
        return 0.0

    @property
    def channel_max(self) -> float:
        """The most that a ``channels`` gate, by which each channel of every update is multiplied first of all, may say; 0 if there is none."""
        return 0.0

    @property
    def rates(self) -> Literal["before", "after"]:
        """Whether the learning rate multiplies each gradient, or what moves the memory in the end; then updates are sums of plain gradients."""
        return "before"

    @abstractmethod
    def accumulate(self, moments: tuple[Params, ...], update: Params, step: Step) -> tuple[Params, ...]:
        """The moments after a step whose summed gradient is ``update``."""

    @abstractmethod
    def expose(self, moments: tuple[Params, ...], update: Params, step: Step) -> Params:
        """What the step adds to the accumulator, given the moments after it."""


class AbstractLinearLearner(AbstractLearner):
    """A learner that is linear in the gradients and in its moments."""

    @abstractmethod
    def response(self, steps: Step, active: Tensor) -> Response:
        """The learner over n steps at once. ``steps`` holds gates [..., n, ...]; a step that is not ``active`` [..., n] does not happen."""


class AbstractPlainLearner(AbstractLinearLearner):
    """A learner without moments that moves by minus the gradient."""

    def accumulate(self, moments: tuple[Params, ...], update: Params, step: Step) -> tuple[Params, ...]:
        return ()

    def expose(self, moments: tuple[Params, ...], update: Params, step: Step) -> Params:
        return each(torch.neg, update)

    def response(self, steps: Step, active: Tensor) -> Response:
        n, lead = active.shape[-1], active.shape[:-1]
        return Response(-torch.diag_embed(active), active.new_zeros(*lead, n, 0), active.new_zeros(*lead, 0, n), active.new_zeros(*lead, 0, 0))
