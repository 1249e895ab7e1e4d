"""The attentional bias: what a memory is asked to hold."""

from .dot import Dot as Dot
from .huber import Huber as Huber
from .l2 import L2 as L2
from .lp import Lp as Lp
from .omega import Omega as Omega
from .shift_robust import ShiftRobust as ShiftRobust
from .transposed import Transposed as Transposed
