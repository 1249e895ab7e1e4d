"""Blocks: one figure of a paper in each file."""

from .convolution import Convolution as Convolution
from .lmm import LMM as LMM
from .mac import MAC as MAC
from .mag import MAG as MAG
from .mal import MAL as MAL
from .memory_before_attention import MemoryBeforeAttention as MemoryBeforeAttention
from .mixer import AbstractMixer as AbstractMixer
from .mixer import Block as Block
from .mixer import Gating as Gating
from .sliding_window import SlidingWindow as SlidingWindow
from .state import BlockState as BlockState
