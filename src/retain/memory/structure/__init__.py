"""What a memory is: the network whose weights are rewritten."""

from .gated_mlp import GatedMLP as GatedMLP
from .matrix import Matrix as Matrix
from .mlp import MLP as MLP
from .norm_residual import NormResidual as NormResidual
