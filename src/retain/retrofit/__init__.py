"""Retrofit: a frozen pretrained language model gets a memory beside the attention of its layers."""

from .asking import Asked as Asked
from .asking import ask as ask
from .asking import read_pages as read_pages
from .attach import attach as attach
from .attach import branches_of as branches_of
from .attach import detach as detach
from .attach import disable_memory as disable_memory
from .attach import memory_parameters as memory_parameters
from .attach import writing as writing
from .cache import MemoryCache as MemoryCache
from .calibration import calibrate as calibrate
from .calibration import start_recalling as start_recalling
from .config import MemoryConfig as MemoryConfig
from .prefix import FrozenPrefix as FrozenPrefix
from .smollm2 import FetchError as FetchError
from .smollm2 import default_folder as default_folder
from .smollm2 import fetch_smollm2 as fetch_smollm2
from .writes import AbstractWrites as AbstractWrites
from .writes import AllTokens as AllTokens
from .writes import NoTokens as NoTokens
