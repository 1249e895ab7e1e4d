"""Retrofit: a frozen pretrained language model gets a memory beside the attention of its layers."""

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
from .snapshots import load_memory as load_memory
from .snapshots import reset_rows as reset_rows
from .snapshots import save_memory as save_memory
from .store import load as load
from .store import memory_hash as memory_hash
from .store import save as save
from .telemetry import CollapsedGate as CollapsedGate
from .telemetry import Telemetry as Telemetry
from .telemetry import watch as watch
from .writes import AbstractWrites as AbstractWrites
from .writes import AllTokens as AllTokens
from .writes import MarkedTokens as MarkedTokens
from .writes import NoTokens as NoTokens
from .writes import SurprisingTokens as SurprisingTokens
