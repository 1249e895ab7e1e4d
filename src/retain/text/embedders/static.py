"""WordLlama: a vector for each token, and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from retain.text.errors import EmbedderMissing

from .installed import files_of

PACKAGE = "wordllama"
_CURE = f"pip install 'retain[text]' {PACKAGE}, or hand over another embedder, as in TextMemory.open(path, embedder=HashingEmbedder())."


class WordLlama:
    """The mean of static token vectors of 256 numbers, which the package ``wordllama`` brings along; nothing is fetched.

    Much faster than ``MiniLM``, since there is nothing to compute but a mean, and blind to the order of words.

    Raises:
        EmbedderMissing: The package, or tokenizers, is not installed.

    Examples:
        >>> embedder = WordLlama()
        >>> embedder.embed(["hello", "world"]).shape
        torch.Size([2, 256])
    """

    def __init__(self) -> None:
        files = files_of(PACKAGE, _CURE)
        weights = [path for path in files if path.suffix == ".safetensors" and "256" in path.name]
        tokenizers = [path for path in files if path.suffix == ".json" and "tokenizer" in path.name]
        if not weights or not tokenizers:
            raise EmbedderMissing(f"{PACKAGE} is installed, but its vectors do not lie in it. Cure: pip install --force-reinstall {PACKAGE}")
        self.weights, self.tokens = weights[0], tokenizers[0]

    @property
    def identity(self) -> str:
        return f"wordllama/1 {self.weights.stem}, mean over tokens, width 256"

    @property
    def width(self) -> int:
        return 256

    @cached_property
    def _parts(self) -> tuple[Any, Tensor]:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise EmbedderMissing(f"WordLlama splits texts with tokenizers, which is not installed. Cure: {_CURE}") from None
        (vectors,) = load_file(self.weights).values()
        return Tokenizer.from_file(str(self.tokens)), vectors.float()

    def embed(self, texts: Sequence[str]) -> Tensor:
        if not texts:
            return torch.zeros(0, self.width)
        tokenizer, vectors = self._parts
        found = [vectors[torch.tensor(encoding.ids)].mean(0) for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
        return torch.nn.functional.normalize(torch.stack(found), dim=-1)
