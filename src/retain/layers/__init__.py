"""Modules: slow weights that say what a memory reads, how fast it learns, and what becomes of its answer."""

from .continuum import ContinuumMemory as ContinuumMemory
from .features import Polynomial as Polynomial
from .gates import Gates as Gates
from .gates import LowRankGates as LowRankGates
from .level import Level as Level
from .neural_memory import NeuralMemory as NeuralMemory
from .norm import RMS as RMS
from .output import Output as Output
from .patient_memory import PatientMemory as PatientMemory
from .projections import Projections as Projections
from .self_modifying import Rates as Rates
from .self_modifying import SelfModifyingMemory as SelfModifyingMemory
from .self_modifying import SelfModifyingRule as SelfModifyingRule
from .tnt import Local as Local
from .tnt import TNTMemory as TNTMemory
from .tnt_state import TNTState as TNTState
from .ttt import TTTMLP as TTTMLP
from .ttt import TTTLinear as TTTLinear
