"""Qwen3, dense."""

from .family import Family

QWEN3 = Family(model_type="qwen3")
