"""The attentional bias: what a memory is asked to hold."""

from .dot import Dot as Dot
from .l2 import L2 as L2
