"""Text memory for agents: a neural memory that learns texts while it reads them, and the texts beside it."""

from .config import MemoryConfig as MemoryConfig
from .config import Scope as Scope
from .embedders import Embedder as Embedder
from .embedders import HashingEmbedder as HashingEmbedder
from .embedders import MiniLM as MiniLM
from .embedders import WordLlama as WordLlama
from .errors import DamagedMemory as DamagedMemory
from .errors import EmbedderMissing as EmbedderMissing
from .errors import MemoryBusy as MemoryBusy
from .errors import ReadOnlyMemory as ReadOnlyMemory
from .errors import StorageFailed as StorageFailed
from .made_with import MadeWith as MadeWith
from .memory import TextMemory as TextMemory
from .results import HistoryEntry as HistoryEntry
from .results import InferResult as InferResult
from .results import ObserveResult as ObserveResult
