"""lm-eval's own tasks for models with memories.

    import lm_eval
    from retain.evaluation import for_lm_eval

    results = lm_eval.simple_evaluate(for_lm_eval(model, tokenizer), tasks=["lambada_openai"])
    without = lm_eval.simple_evaluate(for_lm_eval(model, tokenizer, write=False), tasks=["lambada_openai"])

lm-eval itself is the extra ``eval``.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from .stream import Stream, at_rest

NO_LIMIT = 1 << 40
"""Tokens of a context: a memory does not run out of places."""


def for_lm_eval(model: nn.Module, tokenizer: Any, *, batch: int = 1, chunk: int = 4096, write: bool = True, longest: int | None = None) -> Any:
    """A model as lm-eval takes it: an ``lm_eval.models.huggingface.HFLM``, for ``simple_evaluate`` or ``evaluate``.

    It differs from lm-eval's own in three points. A context has no greatest length, where lm-eval would keep 2048 tokens of it. Scores are computed
    chunk by chunk through the model's cache, and each request starts from an empty one. And memories can be forbidden to write, as a control.

    Args:
        model: A causal language model, such as ``RetainForCausalLM``.
        tokenizer: A tokenizer of transformers, with a token that ends or pads texts.
        batch: Requests side by side.
        chunk: Tokens that are read at once.
        write: Whether memories may write.
        longest: Tokens of a context at most; longer ones lose their beginning. None has no limit.

    Returns:
        The adapter, an instance of a subclass of ``HFLM``.

    Raises:
        ImportError: lm-eval is missing.
        ValueError: A number is not positive, or memories may not write and the model cannot be told so.

    Examples:
        >>> for_lm_eval(nn.Identity(), None, chunk=0)
        Traceback (most recent call last):
        ValueError: for_lm_eval needs batch, chunk and longest of 1 at least, got 1, 0 and None.
    """
    if min(batch, chunk, longest or 1) < 1 or longest == 0:
        raise ValueError(f"for_lm_eval needs batch, chunk and longest of 1 at least, got {batch}, {chunk} and {longest}.")
    Stream(model, write)  # which refuses a model that cannot be told not to write
    made = _adapter()(model, backend="causal", tokenizer=tokenizer, batch_size=batch, max_length=longest or NO_LIMIT)
    made.chunk, made.write = chunk, write
    return made


@cache
def _adapter() -> Any:
    try:
        base: Any = import_module("lm_eval.models.huggingface").HFLM
    except ImportError as error:
        raise ImportError("lm-eval's tasks need lm-eval. Cure: pip install 'retain[eval]'.") from error

    class MemoryLM(base):
        """lm-eval's model of transformers, read in chunks."""

        chunk, write = 4096, True

        def _model_call(self, inps: Tensor, attn_mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
            with at_rest(self.model):
                stream = Stream(self.model, self.write)
                return torch.cat([stream.read(part, torch.arange(part.shape[1])) for part in inps.split(self.chunk, dim=1)], dim=1)

        def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **generation: Any) -> Tensor:
            how = {} if self.write else {"write": False}
            return super()._model_generate(context, max_length, stop, **generation, **how)

    return MemoryLM
