"""A chat with a model whose attention forgets each turn, or whatever lies too far back, and whose memories do not."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .attach import disable_memory, settle, writing
from .cache import MemoryCache
from .snapshots import load_memory, save_memory
from .surprises import surprises
from .writes import AbstractWrites, AllTokens


class Conversation:
    """What was said, in the words of the model's chat template, and what of it is still in sight.

    Args:
        model: A model with memories.
        tokenizer: Its tokenizer, with a chat template.
        writes: Which tokens are written.
        window: Tokens that may stand in the attention cache behind a turn; if there are more it is cut, and the next turn knows from memory alone what was
            said before. None never cuts.
        temperature: 0 says the likeliest; above, it samples.

    Raises:
        ValueError: The tokenizer has no chat template, or a number is negative.

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval()
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> from types import SimpleNamespace
        >>> try:
        ...     Conversation(model, SimpleNamespace(chat_template=None))
        ... except ValueError as refused:
        ...     print(str(refused)[:34])
        the tokenizer has no chat template
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: Any, *, writes: AbstractWrites | None = None, window: int | None = 0, temperature: float = 0.0
    ) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError(
                "the tokenizer has no chat template, so that nobody knows how turns are told apart. Cure: a base that was made for chats."
            )
        if temperature < 0 or (window is not None and window < 0):
            raise ValueError(f"temperature and window are 0 at least, got {temperature} and {window}.")
        self.model, self.tokenizer, self.writes, self.window, self.temperature = model, tokenizer, writes or AllTokens(), window, temperature
        self.on = True
        self.cache = MemoryCache(model.config)
        self.turns: list[dict[str, str]] = []
        self.text = ""
        self.last: tuple[tuple[str, float], ...] = ()

    def say(self, words: str, most: int = 256) -> Iterator[str]:
        """Tell the model something; what it says comes piece by piece.

        Args:
            words: The turn of the user.
            most: Tokens of the answer at most.
        """
        given = self._prompt(words)
        with self._reading():
            if self.on:
                with surprises(self.model) as seen:
                    logits = self._read(given)
                self.last = tuple(zip((self.tokenizer.decode([token]) for token in given), seen.by_token()[0].tolist(), strict=True))
            else:
                logits = self._read(given)
        answer, whole, told, end, stops = list[int](), "", 0, "", self._stops()
        while len(answer) < most and not end:
            token = self._choose(logits)
            with self._reading():
                logits = self._read([token])
            if token in stops:
                end = self.tokenizer.decode([token])
            else:
                answer.append(token)
                whole = self.tokenizer.decode(answer)
                if not whole.endswith("\N{REPLACEMENT CHARACTER}"):  # a letter that is not complete
                    yield whole[told:]
                    told = len(whole)
        if told < len(whole):
            yield whole[told:]
        self.turns.append({"role": "assistant", "content": whole})
        self.text += whole + end
        if self.window is not None and self.cache.get_seq_length() > self.window:
            self.cut()

    def cut(self) -> None:
        """Forget what attention sees; what the memories learnt stays."""
        self.cache = (settle(self.model, self.cache) if self.cache.memories else self.cache).memories_only()
        self.turns, self.text = [], ""

    def reset(self) -> None:
        """Forget all."""
        self.cache, self.turns, self.text, self.last = MemoryCache(self.model.config), [], "", ()

    def fork(self) -> Conversation:
        """A conversation that goes on from here by itself."""
        new = Conversation(self.model, self.tokenizer, writes=self.writes, window=self.window, temperature=self.temperature)
        new.cache, new.turns, new.text, new.last, new.on = self.cache.fork(), [*self.turns], self.text, self.last, self.on
        return new

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what the memories learnt; see ``save_memory``.

        Raises:
            ValueError: Nothing has been read.
        """
        save_memory(settle(self.model, self.cache) if self.cache.memories else self.cache, self.model, path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from what ``save`` wrote, with nothing in sight; see ``load_memory``."""
        cache = load_memory(self.model, path)
        self.reset()
        self.cache = cache

    def _prompt(self, words: str) -> list[int]:
        """The tokens that are to be read, the user's turn among them. What is in sight already is not read again."""
        turns = [*self.turns, {"role": "user", "content": words}]
        whole = str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        if not whole.startswith(self.text):  # the template writes down earlier turns in another way than they were said
            self.cut()
            turns = turns[-1:]
            whole = str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        self.turns, new = turns, whole[len(self.text) :]
        self.text = whole
        return self.tokenizer.encode(new, add_special_tokens=False)

    @contextmanager
    def _reading(self) -> Generator[None]:
        with torch.no_grad(), writing(self.model, self.writes), nullcontext() if self.on else disable_memory(self.model):
            yield

    def _read(self, tokens: list[int]) -> Tensor:
        out = self.model(input_ids=torch.tensor([tokens], device=self.model.device), past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        return out.logits[0, -1].float()

    def _choose(self, logits: Tensor) -> int:
        if self.temperature == 0:
            return int(logits.argmax())
        return int(torch.multinomial(torch.softmax(logits / self.temperature, -1), 1))

    def _stops(self) -> set[int]:
        known = self.model.generation_config.eos_token_id if self.model.generation_config is not None else None
        return {token for token in (*(known if isinstance(known, list) else [known]), self.tokenizer.eos_token_id) if token is not None}
