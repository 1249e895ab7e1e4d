"""Which tokens are written: any split of a stream writes the same ones, padding is invisible, and the extremes are all and none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retain.retrofit import AbstractWrites, AllTokens, MarkedTokens, MemoryCache, MemoryConfig, NoTokens, SurprisingTokens, branches_of, writing
from retain.retrofit.writes import writes_from, writes_to
from tests.unit.retrofit.bases import MEMORY, retrofitted, words

MARKS = MarkedTokens(start=(1, 2), stop=(3, 4))
EXACT: dict[str, Any] = {"preset": "delta_net", "heads": 2, "projections": {"conv": 2}}


def _mask(rule: AbstractWrites, tokens: Tensor) -> Tensor:
    mask, _ = rule.mask(tokens, torch.ones_like(tokens, dtype=torch.bool), None)
    assert mask is not None
    return mask


def _by_hand(line: list[int], start: tuple[int, ...], stop: tuple[int, ...]) -> list[bool]:
    written, standing = [], False
    for i in range(len(line)):
        so_far = tuple(line[: i + 1])
        opens, closes = so_far[-len(start) :] == start, so_far[-len(stop) :] == stop
        written.append(standing and not closes)
        standing = opens or (standing and not closes)
    return written


@pytest.mark.parametrize(("start", "stop"), [((1,), (2,)), ((1, 2), (2,)), ((1, 2, 1), (2, 1)), ((0,), (1, 1, 2)), ((2,), (1, 2))])
def test_marked_tokens_are_those_of_a_walk_along_the_line(start: tuple[int, ...], stop: tuple[int, ...]) -> None:
    tokens = torch.randint(0, 3, (6, 40), generator=torch.Generator().manual_seed(0))
    mask = _mask(MarkedTokens(start, stop), tokens)
    assert mask.tolist() == [_by_hand(line, start, stop) for line in tokens.tolist()]
    assert 0 < mask.sum() < mask.numel()


def test_marks_carry_over_any_split_with_padding_anywhere() -> None:
    tokens = torch.randint(0, 5, (3, 30), generator=torch.Generator().manual_seed(0))
    tokens[:, 4:6], tokens[:, 17:19] = torch.tensor([1, 2]), torch.tensor([3, 4])
    rule, whole = MARKS, _mask(MARKS, tokens)
    real = torch.rand(3, 60, generator=torch.Generator().manual_seed(1)).argsort(1) < 30
    spread = torch.zeros(3, 60, dtype=torch.long).masked_scatter(real, tokens)
    for cuts in ([7, 53], [60], [1] * 60, [20, 0, 40]):
        parts, marks = [], None
        for words_, there in zip(spread.split(cuts, 1), real.split(cuts, 1), strict=True):
            mask, marks = rule.mask(words_, there, marks)
            assert mask is not None
            parts.append(mask)
        assert torch.equal(torch.cat(parts, 1)[real].view(3, 30), whole)
        assert not torch.cat(parts, 1)[~real].any()


class _Chat:
    """A tokenizer of letters with a chat template of its own: two special tokens, and a default system turn."""

    all_special_ids = (900, 901)

    def __init__(self, form: str) -> None:
        self.form = form

    def get_added_vocab(self) -> dict[str, int]:
        return {}

    def apply_chat_template(self, chat: list[dict[str, str]], tokenize: bool) -> str:
        return "[system:be kind]\n" + "".join(self.form.format(**turn) for turn in chat)

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [{"[": 900, "]": 901}.get(letter, ord(letter)) for letter in text]

    def decode(self, tokens: Tensor) -> str:
        return "".join({900: "[", 901: "]"}.get(token, chr(token)) for token in tokens.tolist())


@pytest.mark.parametrize(("role", "said"), [("user", "I am Ann.\nHi\nHow are you?"), ("assistant", "Hello\nFine.")])
def test_turns_are_read_off_the_chat_template(role: Any, said: str) -> None:
    chat = _Chat("[{role}:{content}]\n")
    rule = MarkedTokens.turns(chat, role)
    assert chat.decode(torch.tensor(rule.start)) == f"[{role}:"
    assert chat.decode(torch.tensor(rule.stop)) == "]"
    turns = [("user", "I am Ann.\nHi"), ("assistant", "Hello\n"), ("user", "\nHow are you?"), ("assistant", "Fine.")]
    text = chat.apply_chat_template([{"role": who, "content": what} for who, what in turns], tokenize=False)
    tokens = torch.tensor([chat.encode(text, add_special_tokens=False)])
    assert chat.decode(tokens[_mask(rule, tokens)]) == said


@pytest.mark.parametrize("form", ["{content}", "[{content}]", "{role} said nothing"])
def test_a_template_without_marks_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match="does not mark what the user says"):
        MarkedTokens.turns(_Chat(form))


def test_markers_and_thresholds_that_mean_nothing_are_refused() -> None:
    for start, stop in (((), (1,)), ((1,), ()), ((1,), (1,)), ((-1,), (2,))):
        with pytest.raises(ValueError, match="two different sequences"):
            MarkedTokens(start, stop)
    with pytest.raises(ValueError, match="not chosen by surprise"):
        SurprisingTokens(1.0, among=SurprisingTokens(1.0))
    with pytest.raises(ValueError, match="takes a number"):
        SurprisingTokens(float("nan"))
    model = retrofitted(writes=MARKS)
    with pytest.raises(ValueError, match="give input_ids"):
        model(inputs_embeds=model.get_input_embeddings()(words()))


@pytest.mark.parametrize("rule", [AllTokens(), NoTokens(), MARKS, SurprisingTokens(0.5, among=MARKS)], ids=lambda rule: type(rule).__name__)
def test_a_rule_can_be_written_down(rule: AbstractWrites) -> None:
    assert writes_from(writes_to(rule)) == rule
    config = MemoryConfig(layers=(1, -1), memory=MEMORY, writes=rule)
    assert MemoryConfig.from_dict(config.to_dict()) == config


def test_what_cannot_be_written_down_or_is_unknown_is_refused() -> None:
    class Own(NoTokens):
        pass

    with pytest.raises(ValueError, match="Own cannot be written down"):
        writes_to(Own())
    for given in ({"name": "Own"}, {}, {"name": "NoTokens", "threshold": 1}):
        with pytest.raises(ValueError, match="there are AllTokens"):
            writes_from(given)
    plain = MemoryConfig().to_dict()
    with pytest.raises(ValueError, match=r"got in addition \['size'\] and missed \['refine'\]"):
        MemoryConfig.from_dict({**{name: value for name, value in plain.items() if name != "refine"}, "size": 3})
    with pytest.raises(ValueError, match="cannot be written down"):
        MemoryConfig(memory={"rule": object()}).to_dict()


# ---- in a model


def _read(model: Any, tokens: Tensor, cuts: list[int] | None = None, mask: Tensor | None = None, cache: Any = None) -> tuple[Tensor, MemoryCache]:
    cache, logits = cache or MemoryCache(model.config), []
    done = 0
    with torch.no_grad():
        for part in tokens.split(cuts or [tokens.shape[1]], 1):
            done += part.shape[1]
            logits.append(model(part, past_key_values=cache, attention_mask=None if mask is None else mask[:, :done]).logits)
    return torch.cat(logits, 1), cache


def _assert_same(one: MemoryCache, other: MemoryCache) -> None:
    for branch_one, branch_other in zip(one.memories, other.memories, strict=True):
        for (name, a), (_, b) in zip(_whole(branch_one), _whole(branch_other), strict=True):
            torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}")


def _whole(state: Any) -> list[tuple[str, Tensor]]:
    """The numbers that mean something however the stream was cut: what is pending may be laid out in other ways."""
    return [(name, t) for name, t in state.tensors() if not name.startswith("pending")]


def _middling(model: Any, tokens: Tensor) -> float:
    """A surprise between those of the tokens of the first memory, and far from being any of them: a tie is broken by the last bit."""
    seen: list[Tensor] = []
    memory = branches_of(model)[0].memory
    hook = memory.register_forward_hook(lambda module, args, out: seen.append(out[2].mean(-1)) if len(out) > 2 else None)
    with writing(model, SurprisingTokens(0.0)):
        _read(model, tokens)
    hook.remove()
    surprises = torch.cat([x[x > 0] for x in seen]).sort().values
    middle = surprises[len(surprises) // 4 : -len(surprises) // 4]
    widest = middle.diff().argmax()
    return float(middle[widest : widest + 2].mean())


@pytest.mark.parametrize("memory", [MEMORY, EXACT], ids=["every 4", "every 1"])
def test_surprising_tokens_are_the_same_in_any_split_and_padding_leaves_no_trace(memory: dict[str, Any]) -> None:
    model, tokens = retrofitted(memory=memory), words(2, 13)
    with writing(model, SurprisingTokens(_middling(model, tokens))):
        whole, cache = _read(model, tokens)
        for cuts in ([5, 8], [1] * 13, [4, 9]):
            split, other = _read(model, tokens, cuts)
            torch.testing.assert_close(split, whole)
            _assert_same(other, cache)
        mask = torch.ones(2, 16, dtype=torch.long)
        mask[0, :3], mask[1, :2], mask[1, -1] = 0, 0, 0
        padded = torch.zeros(2, 16, dtype=torch.long).masked_scatter(mask.bool(), torch.cat([tokens[0], tokens[1]]))
        logits, other = _read(model, padded, [7, 9], mask)
        torch.testing.assert_close(logits[mask.bool()], whole.flatten(0, 1))
        _assert_same(other, cache)
    _, everything = _read(model, tokens)
    with writing(model, False):
        _, nothing = _read(model, tokens)
    hashes = {kept.hash() for kept in (cache, everything, nothing)}
    assert len(hashes) == 3


@pytest.mark.parametrize(("threshold", "same"), [(0.0, AllTokens()), (float("inf"), NoTokens())])
@pytest.mark.parametrize("memory", [MEMORY, EXACT], ids=["every 4", "every 1"])
def test_no_threshold_is_all_tokens_and_an_infinite_one_none(threshold: float, same: AbstractWrites, memory: dict[str, Any]) -> None:
    model, tokens = retrofitted(memory=memory), words(2, 11)
    with writing(model, SurprisingTokens(threshold)):
        got = _read(model, tokens, [6, 5])
    with writing(model, same):
        expected = _read(model, tokens)
    torch.testing.assert_close(got[0], expected[0])
    _assert_same(got[1], expected[1])


def test_marked_tokens_in_a_model_are_those_of_a_write_mask_in_any_split() -> None:
    model, tokens = retrofitted(writes=MARKS), words(2, 16)
    tokens[0, 2:4], tokens[0, 9:11], tokens[1, 7:9] = torch.tensor([1, 2]), torch.tensor([3, 4]), torch.tensor([1, 2])
    with torch.no_grad(), writing(model, AllTokens()):
        expected = model(tokens, write_mask=_mask(MARKS, tokens))
    for cuts in ([16], [3, 7, 6], [1] * 16):
        logits, cache = _read(model, tokens, cuts)
        torch.testing.assert_close(logits, expected.logits)
        _assert_same(cache, expected.past_key_values)


def test_marks_go_with_their_rows_and_are_kept_up_while_nothing_is_written() -> None:
    model, tokens = retrofitted(writes=MARKS), words(2, 8)
    tokens[1, 3:5] = torch.tensor([1, 2])
    _, cache = _read(model, tokens)
    assert cache.marks[MARKS][:, 0].tolist() == [0, 1]
    with writing(model, False):
        _, silent = _read(model, tokens)
    assert torch.equal(silent.marks[MARKS], cache.marks[MARKS])
    fork = cache.fork()
    fork.batch_repeat_interleave(2)
    fork.reorder_cache(torch.tensor([3, 0, 1, 2]))
    assert fork.marks[MARKS][:, 0].tolist() == [1, 0, 0, 1]
    fork.batch_select_indices(torch.tensor([0, 2]))
    assert fork.marks[MARKS][:, 0].tolist() == [1, 0]
    assert cache.marks[MARKS][:, 0].tolist() == [0, 1]
    fork.reset()
    assert fork.marks == {}


def test_gradients_flow_through_what_surprised() -> None:
    model, tokens = retrofitted(), words(2, 9)
    with writing(model, SurprisingTokens(_middling(model, tokens))):
        F.cross_entropy(model(tokens).logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    for branch in branches_of(model):
        for name, weight in branch.named_parameters():
            assert weight.grad is not None, name
            assert weight.grad.abs().sum() > 0, name
