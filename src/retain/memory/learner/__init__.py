"""The learning algorithm: how a memory moves."""

from .gradient import Gradient as Gradient
from .momentum import Momentum as Momentum
