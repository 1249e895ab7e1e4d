"""The optimizers of Nested Learning, ordinary ``torch.optim.Optimizer`` classes whose step is a pure function of tensors."""

from .adam_as_memory import AdamAsMemory as AdamAsMemory
from .deep_momentum import DeepMomentum as DeepMomentum
from .delta_gradient_descent import DeltaGradientDescent as DeltaGradientDescent
from .delta_momentum import DeltaMomentum as DeltaMomentum
from .feature_map_momentum import FeatureMapMomentum as FeatureMapMomentum
from .gradient_descent import GradientDescent as GradientDescent
from .learned_preconditioner import LearnedPreconditioner as LearnedPreconditioner
from .m3 import M3 as M3
from .m3 import SlowMomentum as SlowMomentum
from .matrix_adagrad import MatrixAdaGrad as MatrixAdaGrad
from .momentum import Momentum as Momentum
from .muon import Muon as Muon
from .optimizer import AbstractOptimizer as AbstractOptimizer
from .orthogonal import NewtonSchulz as NewtonSchulz
from .preconditioned_momentum import PreconditionedMomentum as PreconditionedMomentum
