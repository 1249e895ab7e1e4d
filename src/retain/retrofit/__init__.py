"""Retrofit: a frozen pretrained language model gets a memory beside the attention of its layers."""

from .attach import attach as attach
from .attach import branches_of as branches_of
from .attach import detach as detach
from .attach import disable_memory as disable_memory
from .attach import memory_parameters as memory_parameters
from .attach import settle as settle
from .attach import writing as writing
from .cache import MemoryCache as MemoryCache
from .config import PLAIN as PLAIN
from .config import MemoryConfig as MemoryConfig
from .writes import AbstractWrites as AbstractWrites
from .writes import AllTokens as AllTokens
from .writes import NoTokens as NoTokens
