"""The learning algorithm: how a memory moves."""

from .clamp import Clamp as Clamp
from .gradient import Gradient as Gradient
from .momentum import Momentum as Momentum
from .orthogonal import Orthogonal as Orthogonal
from .per_tensor import PerTensor as PerTensor
