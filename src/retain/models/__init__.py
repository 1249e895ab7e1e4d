"""Models for transformers: a configuration, a causal language model, and its cache. Importing this registers them with the Auto classes."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from .cache import RetainCache as RetainCache
from .causal_lm import RetainForCausalLM as RetainForCausalLM
from .causal_lm import RetainModel as RetainModel
from .config import RetainConfig as RetainConfig
from .stacking import StackedLM as StackedLM

AutoConfig.register("retain", RetainConfig, exist_ok=True)
AutoModel.register(RetainConfig, RetainModel, exist_ok=True)
AutoModelForCausalLM.register(RetainConfig, RetainForCausalLM, exist_ok=True)
