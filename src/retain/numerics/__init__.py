"""Mathematics that has never heard of memory."""

from .activation import Activation as Activation
from .activation import activation as activation
from .activation import pulled_back as pulled_back
from .activation import twice_differentiable as twice_differentiable
from .any_order import any_order as any_order
from .any_order import layer_norm as layer_norm
from .decay import products as products
from .decay import running as running
from .inverse_root import inverse_root as inverse_root
from .length import length as length
from .length import unit as unit
from .newton_schulz import newton_schulz as newton_schulz
from .ragged import Layout as Layout
from .recompute import recompute as recompute
from .soft_threshold import smooth_threshold as smooth_threshold
from .soft_threshold import soft_threshold as soft_threshold
