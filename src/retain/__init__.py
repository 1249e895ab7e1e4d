"""retain: neural test-time memory, layers whose memory is the weights of a small network, rewritten while they read."""

from importlib.metadata import version as _version

from . import optim as optim
from .core.rule import Anchor as Anchor
from .core.rule import MemoryRule as MemoryRule
from .core.state import MemoryState as MemoryState
from .layers import RMS as RMS
from .layers import TTTMLP as TTTMLP
from .layers import ContinuumMemory as ContinuumMemory
from .layers import Gates as Gates
from .layers import Level as Level
from .layers import NeuralMemory as NeuralMemory
from .layers import Output as Output
from .layers import Projections as Projections
from .layers import SelfModifyingMemory as SelfModifyingMemory
from .layers import TTTLinear as TTTLinear
from .memory import bias as bias
from .memory import learner as learner
from .memory import presets as presets
from .memory import retention as retention
from .memory import structure as structure
from .storage import load_state as load_state
from .storage import save_state as save_state

__version__ = _version("retain")
