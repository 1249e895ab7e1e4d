"""Embedders: how a text becomes a vector."""

from .embedder import Embedder as Embedder
from .embedder import embedded as embedded
from .hashing import HashingEmbedder as HashingEmbedder
from .minilm import MiniLM as MiniLM
from .static import WordLlama as WordLlama
