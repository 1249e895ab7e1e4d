"""Llama, and what is built like it: SmolLM2, TinyLlama."""

from .family import Family

LLAMA = Family(model_type="llama")
