"""Attention over a window: what it sees, and that it may stop and go on anywhere."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retain.layers import window as window_module
from retain.layers.attention import AbstractAttention, Attention
from retain.layers.implicit_mlp_attention import ImplicitMLPAttention
from retain.layers.nested_attention import NestedAttention
from retain.layers.window import Window, turned
from tests.tolerances import assert_near

DIM = 8


def _kinds(window: int) -> dict[str, AbstractAttention]:
    torch.manual_seed(0)
    return {
        "softmax": Attention(heads=2, window=window).build(DIM).double(),
        "grouped": Attention(heads=4, kv_heads=2, window=window).build(DIM).double(),
        "nested": NestedAttention(DIM, heads=2, window=window).double(),
        "implicit": ImplicitMLPAttention(DIM, widths=(4, 6, 4), heads=2, window=window).double(),
    }


KINDS = list(_kinds(1))


def _stream(batch: int = 2, time: int = 11) -> Tensor:
    return torch.randn(batch, time, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _full(lengths: int, batch: int = 2) -> Tensor:
    return torch.full((batch,), lengths)


@pytest.mark.equation("titans", 2)
@pytest.mark.equation("titans", 27)
@pytest.mark.equation("titans", 31)
@pytest.mark.equation("miras", 2)
@pytest.mark.parametrize("window", [1, 2, 3, 4, 11, 20])
def test_a_window_is_softmax_over_the_last_tokens_and_the_prefix(window: int) -> None:
    source = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 11, 2, 4, dtype=torch.float64, generator=source) for _ in range(3))
    ahead = torch.randn(2, 2, 3, 2, 4, dtype=torch.float64, generator=source)
    look = Window(window, theta=100.0)
    y, _ = look.look(q, k, v, look.start(k[:, :0], v[:, :0]), _full(11), (ahead[0], ahead[1]))
    for i in range(11):
        first = max(0, i - window + 1)
        near = turned(k[:, first : i + 1], torch.full((2,), first), 100.0)
        here = turned(q[:, i : i + 1], torch.full((2,), i), 100.0)
        keys, values = torch.cat([ahead[0], near], dim=1), torch.cat([ahead[1], v[:, first : i + 1]], dim=1)
        scores = torch.einsum("bqhd,bkhd->bhqk", here, keys) / 2
        assert_near(y[:, i : i + 1], torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), values))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # which needs a compiler
@pytest.mark.parametrize(("window", "kv_heads", "prefix"), [(1, 2, 3), (4, 2, 0), (4, 1, 3), (9, 2, 2)])
def test_flex_attention_answers_as_the_blocks_do(monkeypatch: pytest.MonkeyPatch, window: int, kv_heads: int, prefix: int) -> None:
    source = torch.Generator().manual_seed(0)
    q = torch.randn(2, 21, 2, 4, generator=source)
    k, v = (torch.randn(2, 21, kv_heads, 4, generator=source) for _ in range(2))
    ahead = None if not prefix else tuple(torch.randn(2, prefix, kv_heads, 4, generator=source) for _ in range(2))
    look = Window(window, theta=100.0)
    start = look.start(k[:, :0], v[:, :0])
    _, begun = look.look(q[:, :3], k[:, :3], v[:, :3], start, torch.tensor([3, 1]), ahead)
    for sight in (start, begun):
        expected, after = look.look(q, k, v, sight, _full(21), ahead)
        with monkeypatch.context() as patch:
            patch.setattr(window_module, "flex_fits", lambda q: True)
            y, flexed = look.look(q, k, v, sight, _full(21), ahead)
        assert_near(y, expected)
        assert all(torch.equal(a, b) for a, b in zip(flexed, after, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_window_answers_as_on_the_host() -> None:
    source = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 300, 2, 16, generator=source) for _ in range(3))
    look = Window(64)
    expected, _ = look.look(q, k, v, look.start(k[:, :0], v[:, :0]), _full(300))
    there = [part.cuda() for part in (q, k, v)]
    y, _ = look.look(*there, look.start(there[1][:, :0], there[2][:, :0]), _full(300))
    assert_near(y.cpu(), expected, {torch.float32: 1e-3})


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_attention_that_starts_with_oneself_lets_tokens_through(kv_heads: int) -> None:
    torch.manual_seed(0)
    x = F.rms_norm(torch.randn(2, 40, 64), (64,))
    tokens = torch.full((2,), 40)

    def likeness(start: str) -> float:
        attention = Attention(heads=4, kv_heads=kv_heads, window=32, start=start).build(64)  # pyright: ignore[reportArgumentType]
        y, _ = attention(x, attention.start(2), tokens)
        return float(F.cosine_similarity(y, x, dim=-1).mean().detach())

    assert likeness("self") > (0.9 if kv_heads == 4 else 0.6)
    assert abs(likeness("plain")) < 0.3


def test_a_wide_window_is_torchs_causal_attention() -> None:
    attention = Attention(heads=2, window=50, theta=1e30).build(DIM).double()
    x = _stream()
    x[:, :, 3:5] = 0
    q, k, v = attention.project(x)
    rotated = [turned(part, torch.zeros(2, dtype=torch.long), 1e30).transpose(1, 2) for part in (q, k)]
    expected = F.scaled_dot_product_attention(*rotated, v.transpose(1, 2), is_causal=True)
    assert_near(attention(x, attention.start(2), _full(11))[0], attention.to_out(expected.transpose(1, 2).flatten(-2)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [1, 3, 4, 30])
@pytest.mark.parametrize("sizes", [(1,) * 11, (2, 9), (5, 0, 6), (10, 1)], ids=str)
def test_any_split_gives_one_answer(kind: str, window: int, sizes: tuple[int, ...]) -> None:
    attention, x = _kinds(window)[kind], _stream()
    whole, last = attention(x, attention.start(2), _full(11))
    parts, state = [], attention.start(2)
    for part in x.split(sizes, dim=1):
        y, state = attention(part, state, _full(part.shape[1]))
        parts.append(y)
    assert_near(torch.cat(parts, dim=1), whole)
    for found, expected in zip(state, last, strict=True):
        assert_near(found.k, expected.k)
        assert_near(found.v, expected.v)
        assert found.clock.tolist() == [11, 11]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_different_lengths_are_rows_by_themselves(kind: str) -> None:
    attention, x = _kinds(3)[kind], _stream(3)
    lengths = torch.tensor([4, 11, 0])
    y, state = attention(x, attention.start(3), lengths)
    later, _ = attention(x[:, :5], state, torch.tensor([5, 2, 1]))
    for row, length in enumerate(lengths.tolist()):
        alone, own = attention(x[row : row + 1, :length], attention.start(1), lengths[row : row + 1])
        assert_near(y[row : row + 1, :length], alone)
        size = [5, 2, 1][row]
        assert_near(later[row : row + 1, :size], attention(x[row : row + 1, :size], own, torch.tensor([size]))[0])


@pytest.mark.parametrize(("kind", "reach"), [("softmax", 1), ("grouped", 1), ("nested", 2), ("implicit", 1)])
def test_it_sees_as_far_as_it_says_and_never_ahead(kind: str, reach: int) -> None:
    attention, x = _kinds(3)[kind], _stream(1).requires_grad_()
    y, _ = attention(x, attention.start(1), _full(11, 1))
    for i in range(11):
        (seen,) = torch.autograd.grad(y[0, i].sum(), x, retain_graph=True)
        touched = seen[0].abs().sum(-1).nonzero().flatten().tolist()
        assert touched == list(range(max(0, i - reach * 2), i + 1))


def test_a_prefix_is_in_sight_of_all_and_has_no_place() -> None:
    attention, x = _kinds(3)["softmax"], _stream(1)
    prefix = _stream(1, 2)[0].requires_grad_()
    y, _ = attention(x, attention.start(1), _full(11, 1), prefix)
    for i in range(11):
        assert all(bool(row.any()) for row in torch.autograd.grad(y[0, i].sum(), prefix, retain_graph=True)[0])
    assert_near(attention(x, attention.start(1), _full(11, 1), prefix.flip(0))[0], y)


def test_ten_million_tokens_on_scores_still_depend_on_distances_only() -> None:
    attention = _kinds(4)["softmax"].float()
    x = _stream(1).float()
    near, _ = attention(x, attention.start(1), _full(11, 1))
    (sight,) = attention.start(1)
    blank = sight._replace(clock=torch.tensor([10_000_000]))
    far, _ = attention(x, (blank,), _full(11, 1))
    assert_near(far[:, 4:], near[:, 4:], {torch.float32: 1e-5})


def test_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="kv_heads must divide heads"):
        Attention(heads=4, kv_heads=3)
    with pytest.raises(ValueError, match="positive"):
        Attention(window=0)
    with pytest.raises(ValueError, match="even width"):
        Attention(heads=2).build(6)
    with pytest.raises(ValueError, match="even width"):
        NestedAttention(6, heads=2)
    with pytest.raises(ValueError, match="even numbers"):
        ImplicitMLPAttention(8, widths=(4, 3))
    for kind in ("nested", "implicit"):
        attention = _kinds(3)[kind]
        with pytest.raises(ValueError, match="no persistent tokens"):
            attention(_stream(), attention.start(2), _full(11), torch.zeros(2, DIM, dtype=torch.float64))
