"""The learning algorithm: how a memory moves."""

from .clamp import Clamp as Clamp
from .gradient import Gradient as Gradient
from .implicit import Implicit as Implicit
from .in_turn import InTurn as InTurn
from .least_squares import LeastSquares as LeastSquares
from .momentum import Momentum as Momentum
from .orthogonal import Orthogonal as Orthogonal
from .per_channel import PerChannel as PerChannel
from .per_tensor import PerTensor as PerTensor
