"""Blocks: one figure of a paper in each file, each a mixer for ``Block``.

Hope is ``Block(LMM(SelfModifyingMemory(...)), ..., levels=...)``, Hope-Attention ``Block(AttentionOnly(...), ..., levels=...)`` with attention to all
(Nested Learning section 8.3).
"""

from .attention_only import AttentionOnly as AttentionOnly
from .convolution import Convolution as Convolution
from .lmm import LMM as LMM
from .mac import MAC as MAC
from .mag import MAG as MAG
from .mal import MAL as MAL
from .memory_before_attention import MemoryBeforeAttention as MemoryBeforeAttention
from .mixer import AbstractMixer as AbstractMixer
from .mixer import Block as Block
from .mixer import Gating as Gating
from .state import BlockState as BlockState
