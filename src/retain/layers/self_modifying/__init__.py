"""Self-modifying Titans: memories that make the keys, values and gates of all memories, and the values that each of them is to hold."""

from .memory import SelfModifyingMemory as SelfModifyingMemory
from .rule import Rates as Rates
from .rule import SelfModifyingRule as SelfModifyingRule
