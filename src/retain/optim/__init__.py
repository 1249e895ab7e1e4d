"""The optimizers of Nested Learning, ordinary ``torch.optim.Optimizer`` classes whose step is a pure function of tensors."""

from .gradient_descent import GradientDescent as GradientDescent
from .momentum import Momentum as Momentum
from .optimizer import AbstractOptimizer as AbstractOptimizer
