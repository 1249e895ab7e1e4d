"""What a memory is: the network whose weights are rewritten."""

from .attention_mlp import AttentionMLP as AttentionMLP
from .gated_mlp import GatedMLP as GatedMLP
from .gated_residual_mlp import GatedResidualMLP as GatedResidualMLP
from .low_rank_mlp import LowRankMLP as LowRankMLP
from .matrix import Matrix as Matrix
from .mlp import MLP as MLP
from .module import Module as Module
from .norm_residual import NormResidual as NormResidual
from .residual_glu import ResidualGLU as ResidualGLU
from .residual_mlp import ResidualMLP as ResidualMLP
