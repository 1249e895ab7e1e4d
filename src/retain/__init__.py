"""retain: neural test-time memory, layers whose memory is the weights of a small network, rewritten while they read."""

from importlib.metadata import version as _version

from .core.rule import MemoryRule as MemoryRule
from .core.state import MemoryState as MemoryState
from .memory import bias as bias
from .memory import learner as learner
from .memory import presets as presets
from .memory import retention as retention
from .memory import structure as structure

__version__ = _version("retain")
