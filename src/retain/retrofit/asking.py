"""Reading pages with the attention cache cut between their parts, and asking when only the memories are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from retain.core.state import MemoryState
from retain.tasks import Page

from .attach import session_of, settle
from .cache import MemoryCache
from .prefix import FrozenPrefix, side_by_side, some_layers


@dataclass(frozen=True, eq=False)
class Asked:
    """What became of questions: a number for each token of each answer, given the true ones before it.

    Args:
        loss: How unlikely it was, in nats [tokens].
        said: What would have been said instead [tokens].
        wanted: What it is [tokens].
        question: Which of the questions it belongs to [tokens].
        questions: How many there are.

    Examples:
        >>> one, two = torch.tensor([5, 6, 7]), torch.tensor([5, 6, 8])
        >>> asked = Asked(loss=torch.ones(3), said=one, wanted=two, question=torch.tensor([0, 0, 1]), questions=2)
        >>> asked.right, asked.exact
        (tensor([ True,  True, False]), tensor([ True, False]))
    """

    loss: Tensor
    said: Tensor
    wanted: Tensor
    question: Tensor
    questions: int

    @property
    def right(self) -> Tensor:
        """Whether the likeliest token is the true one [tokens]."""
        return self.said == self.wanted

    @property
    def exact(self) -> Tensor:
        """Whether greedy decoding gives the whole answer [questions]."""
        every = torch.ones(self.questions, dtype=torch.long, device=self.wanted.device)
        return every.scatter_reduce(0, self.question, self.right.long(), "amin").bool()


def read_pages(model: PreTrainedModel, pages: Sequence[Page], start: Sequence[int], *, prefix: FrozenPrefix | None = None) -> MemoryCache:
    """What is left in memory of pages that were read side by side, each part with an attention cache of its own.

    Gradients flow through all of it, if they are on.

    Args:
        model: A model with memories.
        pages: What is read, a row each.
        start: The tokens that are put before each part; see ``opening``.
        prefix: What keeps the work of the layers below the first memory, if pages come again.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> from retain.tasks import Letters, Pairs
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=257, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval()
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> pages = Pairs(facts=3, asked=2, keys=Letters(2)).batch(range(4))
        >>> cache = read_pages(model, pages, start=[256])
        >>> cache.rows, cache.get_seq_length()
        (4, 0)
        >>> ask(model, pages, cache, start=[256]).questions
        8
    """
    cache = MemoryCache(model.config)
    for number in range(max(len(page.parts) for page in pages)):
        rows = [i for i, page in enumerate(pages) if number < len(page.parts)]
        going = cache.memories_only()
        if len(rows) < len(pages):
            going.batch_select_indices(torch.tensor(rows))
        run_rows(model, [_after(start, pages[i].parts[number]) for i in rows], going, prefix, until=session_of(model).places[-1] + 1)
        going = settle(model, going)
        cache = _with_rows(cache, going, rows) if len(rows) < len(pages) else going
    return cache.memories_only()


def read_whole(model: PreTrainedModel, page: Page, start: Sequence[int]) -> tuple[MemoryCache, list[int]]:
    """What is left of a page that was read in one piece and stays in sight, but for its last token; and that, to be put before each question instead.

    Args:
        model: The model.
        page: What is read.
        start: The tokens that are put before it.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> from retain.tasks import Letters, Pairs
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=257, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval()
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> page = Pairs(facts=3, asked=2, keys=Letters(2)).page(0)
        >>> cache, last = read_whole(model, page, start=[256])
        >>> cache.get_seq_length() + len(last) == len(page.text) + 1
        True
    """
    cache, text = MemoryCache(model.config), _after(start, page.text)
    run_rows(model, [text[:-1]], cache, None)
    return cache, text[-1:].tolist()


def ask(
    model: PreTrainedModel,
    pages: Sequence[Page],
    cache: MemoryCache | None,
    start: Sequence[int],
    *,
    of: Sequence[int] | None = None,
    prefix: FrozenPrefix | None = None,
) -> Asked:
    """Ask all questions of all pages, each in a row of its own that goes on from what is in memory.

    Args:
        model: The model.
        pages: Whose questions are asked.
        cache: What ``read_pages`` left, a row for each page; None asks without any.
        start: The tokens that are put before each question.
        of: For each page, the row of the cache that its questions are asked of; its own unless given. Another's is a control.
        prefix: See ``read_pages``.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.tasks import Letters, Pairs
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=257, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval()
        >>> pages = Pairs(facts=3, asked=2, keys=Letters(2)).batch(range(2))
        >>> asked = ask(base, pages, None, start=[256])  # nothing was read
        >>> asked.questions, asked.exact.shape
        (4, torch.Size([4]))
    """
    each = [(i, question) for i, page in enumerate(pages) for question in page.questions]
    rows = [_after(start, question.prompt, question.answer) for _, question in each]
    going: MemoryCache | None = None
    if cache is not None:
        going = cache.fork()
        going.batch_select_indices(torch.tensor([i if of is None else of[i] for i, _ in each]))
    hidden, tokens = run_rows(model, rows, going, prefix)
    places = [(row, len(rows[row]) - len(question.answer) + i - 1) for row, (_, question) in enumerate(each) for i in range(len(question.answer))]
    row, place = torch.tensor(places, device=tokens.device).unbind(1)
    head: Any = model.get_output_embeddings()
    logits, wanted = head(hidden[row, place]), tokens[row, place + 1]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return Asked(F.cross_entropy(logits, wanted, reduction="none"), logits.detach().argmax(-1), wanted, row, len(each))


def opening(tokenizer: Any, text: str = "\n") -> list[int]:
    """The tokens that a stretch begins with which is read with a fresh attention cache: the one that begins a text, and a line's end.

    Without the latter the first word of a question stands where no word of a page does, right behind the token that attention sinks into, and its features
    are then like none that a memory was written with.

    Args:
        tokenizer: That of the model.
        text: What stands between the first token and what is read.

    Raises:
        ValueError: The tokenizer knows no token that begins a text, nor one that ends it.

    Examples:
        >>> from types import SimpleNamespace
        >>> words = SimpleNamespace(bos_token_id=1, eos_token_id=2, encode=lambda text, add_special_tokens: [9])
        >>> opening(words)
        [1, 9]
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [token, *tokenizer.encode(text, add_special_tokens=False)]
    raise ValueError("the tokenizer has neither a token that begins a text nor one that ends it, and one of them is put before each part.")


def _after(start: Sequence[int], *tokens: Tensor) -> Tensor:
    return torch.cat([torch.tensor([*start], dtype=torch.long), *tokens])


def run_rows(
    model: PreTrainedModel, rows: Sequence[Tensor], cache: MemoryCache | None, prefix: FrozenPrefix | None, *, until: int | None = None
) -> tuple[Tensor, Tensor]:
    """The stream behind the last layer [batch, time, dim] of rows of tokens, and the tokens [batch, time]; the cache goes on.

    Args:
        model: The model.
        rows: The tokens of each.
        cache: What is gone on from.
        prefix: See ``read_pages``.
        until: The layer before which it stops, where only the memories are wanted; the stream is then the one there.
    """
    decoder, how = model.get_decoder(), {"past_key_values": cache, "use_cache": cache is not None}
    tokens, mask = side_by_side(rows, model.device)
    if cache is not None:
        mask = F.pad(mask, (cache.get_seq_length(), 0), value=1)
    given: dict[str, Any] = {"input_ids": tokens}
    if prefix is not None:
        given = {"inputs_embeds": prefix(rows), "embeddings": model.get_input_embeddings()(tokens)}
    with some_layers(model, slice(0 if prefix is None else prefix.first, until), norm=until is None):
        return decoder(attention_mask=mask, **given, **how).last_hidden_state, tokens


def _with_rows(cache: MemoryCache, going: MemoryCache, rows: Sequence[int]) -> MemoryCache:
    """What a cache keeps beside attention, some rows of which went on."""
    index = torch.arange(cache.rows)
    index[torch.tensor(rows)] = cache.rows + torch.arange(len(rows))
    memories = tuple(MemoryState.cat([old, new])[index] for old, new in zip(cache.memories, going.memories, strict=True))
    marks = {rule: torch.cat([cache.marks[rule], new])[index.to(new.device)] for rule, new in going.marks.items()}
    return MemoryCache(cache.config, memories, marks)
