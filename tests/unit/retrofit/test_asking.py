"""Pages read part by part, and questions asked of what is in memory then, against one page and one question at a time."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from retain.retrofit import Asked, MarkedTokens, MemoryCache, ask, disable_memory, memory_parameters, opening, read_pages, read_whole, settle
from retain.tasks import Page, Question

from .models import MEMORY, base, by_hand, opened, words
from .pages import START, page, pages

STEPS = {**MEMORY, "rule": {"update_every": 4, "step_every": 4}}
KINDS: dict[str, dict[str, Any]] = {
    "a step for each word": {"layers": (0, 2)},
    "a step for four words": {"layers": (1,), "memory": STEPS},
    "embeddings": {"layers": (1, 2), "values": "embedding", "features": "centred", "memory": {"preset": "gated_delta_net", "heads": 2}},
}


def after(*tokens: Tensor) -> Tensor:
    return torch.cat([torch.tensor(START), *tokens])[None]


def read(model: Any, one: Page) -> MemoryCache:
    """What is left of one page, alone."""
    cache = MemoryCache(model.config)
    for part in one.parts:
        cache = cache.memories_only()
        model(after(part), past_key_values=cache)
        cache = settle(model, cache)
    return cache


def assert_rows(together: MemoryCache, alone: list[MemoryCache]) -> None:
    for row, own in enumerate(alone):
        for number, state in enumerate(own.memories):
            found = together.memories[number][torch.tensor([row])]
            assert found.clock.tolist() == state.clock.tolist()
            for name, weight in state.accumulator.items():
                torch.testing.assert_close(found.accumulator[name], weight, rtol=1e-10, atol=1e-12)
                torch.testing.assert_close(found.anchor[name], state.anchor[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_pages_side_by_side_leave_what_each_leaves_alone(kind: str) -> None:
    model = opened(**KINDS[kind])
    cache = read_pages(model, pages(), START)
    assert (cache.rows, cache.get_seq_length()) == (3, 0)
    assert_rows(cache, [read(model, one) for one in pages()])


@torch.no_grad()
def test_what_stands_open_behind_a_part_stands_open_before_the_next_in_rows_that_have_one() -> None:
    writes = MarkedTokens(start=(5,), stop=(6,))
    model = opened(layers=(1,), writes=writes)
    text = words(1, 40)[0].clamp(min=7)
    long = Page((text[:6], torch.cat([text[6:9], torch.tensor([5]), text[9:12]]), text[12:17]), (Question(text[:1], text[:1], {}),), {})
    short = Page((torch.cat([torch.tensor([5]), text[20:27]]),), (Question(text[:1], text[:1], {}),), {})
    cache, alone = read_pages(model, [long, short], START), [read(model, one) for one in (long, short)]
    assert_rows(cache, alone)
    assert cache.marks[writes].tolist() == [own.marks[writes][0].tolist() for own in alone]
    assert cache.marks[writes][:, 0].tolist() == [1, 1]
    unread = Page((*long.parts[:2], text[30:35]), long.questions, {})
    assert (
        float((read_pages(model, [unread, short], START).memories[0].accumulator["w1"][0] - cache.memories[0].accumulator["w1"][0]).abs().max())
        > 1e-6
    )


@torch.no_grad()
def test_the_last_words_of_a_part_are_in_memory_though_their_step_was_not_complete() -> None:
    model = opened(**KINDS["a step for four words"])
    one = page(0, (5, 8))  # with the start, 7 and 10 words: three and two wait at the ends of the parts
    answers = []
    for changed in (None, 0, 1):
        parts = [part.clone() for part in one.parts]
        if changed is not None:
            parts[changed][-1] = 3 + (parts[changed][-1] - 2) % 37
        cache = read_pages(model, [Page(tuple(parts), one.questions, {})], START)
        answers.append(ask(model, [one], cache, START).loss)
    assert float((answers[1] - answers[0]).abs().max()) > 1e-4
    assert float((answers[2] - answers[0]).abs().max()) > 1e-4


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_each_question_costs_what_it_costs_by_hand(kind: str) -> None:
    model = opened(**KINDS[kind])
    cache = read_pages(model, pages(), START)
    before = cache.hash()
    found = ask(model, pages(), cache, START)
    assert cache.hash() == before
    losses, said, wanted, numbers = [], [], [], []
    for row, one in enumerate(pages()):
        for question in one.questions:
            states = [state[torch.tensor([row])] for state in cache.memories]
            logits = by_hand(model, after(question.prompt, question.answer), states)[0][0, -len(question.answer) - 1 : -1]
            losses.append(-torch.log_softmax(logits, -1)[torch.arange(len(question.answer)), question.answer])
            said.append(logits.argmax(-1))
            wanted.append(question.answer)
            numbers += [2 * row + (question is one.questions[1])] * len(question.answer)
    torch.testing.assert_close(found.loss, torch.cat(losses), rtol=1e-9, atol=1e-10)
    assert torch.equal(found.said, torch.cat(said))
    assert torch.equal(found.wanted, torch.cat(wanted))
    assert found.question.tolist() == numbers
    assert found.questions == 6


def test_an_answer_is_exact_if_each_of_its_words_is_right() -> None:
    wanted = torch.tensor([4, 5, 6, 7, 8, 9])
    asked = Asked(torch.zeros(6), torch.tensor([4, 5, 6, 0, 0, 9]), wanted, torch.tensor([0, 0, 1, 1, 2, 3]), 4)
    assert asked.right.tolist() == [True, True, True, False, False, True]
    assert asked.exact.tolist() == [True, False, False, True]


@torch.no_grad()
def test_a_page_in_sight_is_read_once_for_all_its_questions() -> None:
    model, bare = opened(layers=(0, 2)), base()
    for memory in (True, False):
        for one in pages():
            with nullcontext() if memory else disable_memory(model):
                cache, last = read_whole(model, one, START)
                found = ask(model, [one], cache, last)
            losses = []
            for question in one.questions:
                tokens = after(one.text, question.prompt, question.answer)
                logits = (by_hand(model, tokens)[0] if memory else bare(tokens).logits)[0, -len(question.answer) - 1 : -1]
                losses.append(-torch.log_softmax(logits, -1)[torch.arange(len(question.answer)), question.answer])
            torch.testing.assert_close(found.loss, torch.cat(losses), rtol=1e-9, atol=1e-10)


@torch.no_grad()
def test_questions_are_asked_of_the_rows_that_are_named() -> None:
    model = opened(layers=(0, 2))
    cache = read_pages(model, pages(), START)
    own = ask(model, pages(), cache, START)
    assert torch.equal(ask(model, pages(), cache, START, of=[0, 1, 2]).loss, own.loss)
    other = cache.fork()
    other.batch_select_indices(torch.tensor([2, 0, 0]))
    found = ask(model, pages(), cache, START, of=[2, 0, 0])
    assert torch.equal(found.loss, ask(model, pages(), other, START).loss)
    assert torch.equal(found.wanted, own.wanted)
    assert float((found.loss - own.loss).abs().min()) > 1e-6


def test_the_first_part_learns_from_what_a_question_costs() -> None:
    model = opened(**KINDS["a step for four words"])
    step, source = 1e-5, torch.Generator().manual_seed(0)
    weights = list(memory_parameters(model))
    along = [torch.randn(weight.shape, generator=source, dtype=torch.float64) for weight in weights]

    def cost() -> Tensor:
        return ask(model, pages(), read_pages(model, pages(), START), START).loss.sum()

    slope = sum(float((g * a).sum()) for g, a in zip(torch.autograd.grad(cost(), weights), along, strict=True))
    values = []
    with torch.no_grad():
        for move in (step, -2 * step):
            for weight, a in zip(weights, along, strict=True):
                weight.add_(move * a)
            values.append(float(cost()))
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6)


@pytest.mark.parametrize(
    ("special", "text", "expected"),
    [
        ({"bos_token": "<s>", "eos_token": "</s>"}, "\n", ["<s>", "\n"]),
        ({"eos_token": "</s>"}, "\n", ["</s>", "\n"]),
        ({"bos_token": "<s>"}, "", ["<s>"]),
        ({"bos_token": "<s>"}, "ab", ["<s>", "a", "b"]),
    ],
    ids=str,
)
def test_a_stretch_begins_with_the_first_token_of_a_text_and_what_is_put_behind_it(special: dict[str, str], text: str, expected: list[str]) -> None:
    tokenizer = _bytes(**special)
    assert [tokenizer.decode([token]) for token in opening(tokenizer, text)] == expected


def test_a_tokenizer_that_begins_and_ends_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="neither a token that begins a text"):
        opening(_bytes())


def _bytes(**special: str) -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate([*letters, "<s>", "</s>"])}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
