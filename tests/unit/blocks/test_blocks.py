"""Blocks: the paper's figures written out token by token, and the laws of streams for every one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from retain import Gates, NeuralMemory, presets
from retain.blocks import LMM, MAC, MAG, MAL, AbstractMixer, AttentionOnly, Block, BlockState, Convolution, Gating, MemoryBeforeAttention
from retain.layers.attention import Attention, AttentionMap
from retain.layers.nested_attention import NestedAttention
from retain.layers.window import turned
from retain.memory import structure
from tests.tolerances import assert_near

DIM, WINDOW = 8, 4


def _memory(reads: str = "after") -> NeuralMemory:
    rule = replace(presets.titans(expansion=1.5, update_every=2), reads=reads)  # pyright: ignore[reportArgumentType]
    return NeuralMemory(DIM, heads=2, rule=rule, gates=Gates(lr=0.3))


def _attention() -> AttentionMap:
    return Attention(heads=2, window=WINDOW).build(DIM)


def mixers() -> dict[str, AbstractMixer]:
    torch.manual_seed(0)
    made: dict[str, AbstractMixer] = {
        "lmm": LMM(_memory(), persistent=3),
        "mag": MAG(_memory(), _attention(), persistent=3),
        "mag added": MAG(_memory(), _attention(), gating=Gating(kind="add")),
        "mal": MAL(_memory(), _attention(), persistent=3),
        "mac": MAC(_memory(), _attention(), persistent=3),
        "mac without prefix": MAC(_memory(), _attention(), gating=Gating(kind="silu")),
        "memory before attention": MemoryBeforeAttention(_memory(), NestedAttention(DIM, heads=2, window=WINDOW)),
        "sliding window": AttentionOnly(_attention(), DIM, persistent=3),
        "convolution": Convolution(DIM, width=4),
        "wide convolution": Convolution(DIM, width=9),
    }
    for mixer in made.values():
        mixer.double()
        with torch.no_grad():
            for name, weight in mixer.named_parameters():
                if any(part in name for part in ("conv", "gates", "initial")):
                    weight += 0.2 * torch.randn_like(weight)
    return made


NAMES = list(mixers())
every_mixer = pytest.mark.parametrize("name", NAMES)


def stream(batch: int = 2, time: int = 11) -> Tensor:
    return torch.randn(batch, time, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _all(x: Tensor) -> Tensor:
    return torch.full((x.shape[0],), x.shape[1])


def _run(mixer: AbstractMixer, x: Tensor, write: bool = True) -> Tensor:
    return mixer(x, mixer.start(x.shape[0]), _all(x), write)[0]


# ---- the figures


def _normed(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def test_a_convolution_adds_up_the_last_tokens_channel_by_channel() -> None:
    for name, width in (("convolution", 4), ("wide convolution", 9)):
        mixer, x = mixers()[name], stream()
        assert isinstance(mixer, Convolution)
        for i in range(x.shape[1]):
            mixed = sum(mixer.conv.weight[j] * x[:, i - j] for j in range(min(width, i + 1)))
            assert_near(_run(mixer, x)[:, i], mixed @ mixer.out.weight.T)


@pytest.mark.equation("titans", 19)
@pytest.mark.equation("titans", 26)
@pytest.mark.equation("titans", 27)
@pytest.mark.equation("titans", 28)
def test_mag_is_attention_gated_by_a_memory_of_everything() -> None:
    mag, x = mixers()["mag"], stream()
    assert isinstance(mag, MAG)
    assert mag.persistent is not None
    whole = torch.cat([mag.persistent.expand(2, -1, -1), x], dim=1)
    m = mag.memory(whole)[0][:, 3:]
    y, _ = mag.attention(x, mag.attention.start(2), _all(x), mag.persistent)
    expected = _normed(y, mag.gate.norm_y.weight) * torch.sigmoid(_normed(m, mag.gate.norm_m.weight))
    assert_near(_run(mag, x), expected)


@pytest.mark.equation("titans", 19)
@pytest.mark.equation("titans", 29)
@pytest.mark.equation("titans", 30)
@pytest.mark.equation("titans", 31)
def test_mal_is_attention_over_what_a_memory_answers() -> None:
    mal, x = mixers()["mal"], stream()
    assert isinstance(mal, MAL)
    assert mal.persistent is not None
    m = mal.norm(mal.memory(torch.cat([mal.persistent.expand(2, -1, -1), x], dim=1))[0])
    assert_near(_run(mal, x), mal.attention(m[:, 3:], mal.attention.start(2), _all(x), m[:, :3])[0])


@pytest.mark.equation("titans", 19)
@pytest.mark.equation("titans", "section 4.3")
def test_lmm_is_a_memory_that_has_read_the_persistent_tokens() -> None:
    lmm, x = mixers()["lmm"], stream()
    assert isinstance(lmm, LMM)
    assert lmm.persistent is not None
    assert_near(_run(lmm, x), lmm.memory(torch.cat([lmm.persistent.expand(2, -1, -1), x], dim=1))[0][:, 3:])


@pytest.mark.equation("titans", 21)
@pytest.mark.equation("titans", 22)
@pytest.mark.equation("titans", 23)
@pytest.mark.equation("titans", 24)
@pytest.mark.equation("titans", 25)
def test_mac_is_figure_3_one_token_after_the_other() -> None:
    mac, x = mixers()["mac"], stream(1)
    assert isinstance(mac, MAC)
    assert isinstance(mac.attention, AttentionMap)
    assert mac.persistent is not None
    _, k_ahead, v_ahead = mac.attention.project(mac.persistent[None])
    state, tail, found = mac.memory.start(1), None, []
    for start in range(0, 11, WINDOW):
        past, keys, values = mac.memory.weights(state), [k_ahead], [v_ahead]  # the memory before the segment
        for i in range(start, min(start + WINDOW, 11)):
            token, place = x[:, i : i + 1], torch.tensor([i - start])
            h, tail = mac.memory.retrieve(token, past, tail)
            _, k, v = mac.attention.project(h)
            keys.append(turned(k, place, 10_000.0))
            values.append(v)
            q, k, v = mac.attention.project(token)
            keys.append(turned(k, place + WINDOW, 10_000.0))
            values.append(v)
            scores = torch.einsum("bqhd,bkhd->bhqk", turned(q, place + WINDOW, 10_000.0), torch.cat(keys, dim=1)) / 2
            y = mac.attention.to_out(torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), torch.cat(values, dim=1)).flatten(-2))
            y = _normed(y, mac.gate.norm_y.weight)
            m, state, *_ = mac.memory(y, state)
            found.append(y * torch.sigmoid(_normed(m, mac.gate.norm_m.weight)))
    assert_near(_run(mac, x), torch.cat(found, dim=1))


@pytest.mark.equation("titans", 21)
@pytest.mark.equation("titans", 24)
def test_what_mac_retrieves_is_what_the_segments_before_left_behind() -> None:
    mac, x = mixers()["mac"], stream(1).requires_grad_()
    y = _run(mac, x)
    (seen,) = torch.autograd.grad(y[0, 9].sum(), x)
    assert all(bool(token.any()) for token in seen[0, :10])  # with attention alone it would see its segment only
    silent = _run(mac, x, write=False)
    (seen,) = torch.autograd.grad(silent[0, 9].sum(), x)
    assert not bool(seen[0, 0].any())  # convolutions alone reach back no further


# ---- laws


@every_mixer
def test_no_token_sees_a_later_one(name: str) -> None:
    mixer, x = mixers()[name], stream(1).requires_grad_()
    y = _run(mixer, x)
    for i in range(11):
        (seen,) = torch.autograd.grad(y[0, i].sum(), x, retain_graph=True)
        assert not bool(seen[0, i + 1 :].any()), f"token {i} sees ahead"
        assert bool(seen[0, i].any())


@every_mixer
@pytest.mark.parametrize("sizes", [(1,) * 11, (2, 9), (5, 0, 6), (4, 4, 3)], ids=str)
def test_any_split_gives_one_answer(name: str, sizes: tuple[int, ...]) -> None:
    mixer, x = mixers()[name], stream()
    parts, state = [], mixer.start(2)
    for part in x.split(sizes, dim=1):
        y, state = mixer(part, state, _all(part))
        parts.append(y)
    assert_near(torch.cat(parts, dim=1), _run(mixer, x))


@every_mixer
def test_rows_of_different_lengths_are_rows_by_themselves(name: str) -> None:
    mixer, x = mixers()[name], stream(3)
    lengths, more = torch.tensor([6, 11, 0]), torch.tensor([5, 2, 7])
    y, state = mixer(x, mixer.start(3), lengths)
    later, _ = mixer(x[:, :7], state, more)
    for row in range(3):
        size, then = int(lengths[row]), int(more[row])
        alone, own = mixer(x[row : row + 1, :size], mixer.start(1), lengths[row : row + 1])
        assert_near(y[row : row + 1, :size], alone)
        assert_near(later[row : row + 1, :then], mixer(x[row : row + 1, :then], own, more[row : row + 1])[0])


@every_mixer
def test_states_are_chosen_mixed_and_cut_off(name: str) -> None:
    mixer, x = mixers()[name], stream()
    _, state = mixer(x, mixer.start(2), _all(x))
    later = mixer(x, state, _all(x))[0]
    both = mixer(x[[1, 0, 1]], state[[1, 0, 1]], torch.tensor([11, 11, 11]))[0]
    assert_near(both, later[[1, 0, 1]])
    mixed = BlockState.where(torch.tensor([True, False]), mixer.start(2), state)
    found = mixer(x, mixed, _all(x))[0]
    assert_near(found[0], _run(mixer, x)[0])
    assert_near(found[1], later[1])
    assert not any(t.requires_grad for memory in state.detach().memories.values() for _, t in memory.tensors())


@every_mixer
def test_every_weight_has_a_part_in_the_answer(name: str) -> None:
    mixer, x = mixers()[name], stream()
    _run(mixer, x).square().sum().backward()
    assert [path for path, weight in mixer.named_parameters() if weight.grad is None or not bool(weight.grad.any())] == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "sliding window" and "convolution" not in name])
def test_a_memory_that_may_not_write_stays_as_it_began(name: str) -> None:
    mixer, x = mixers()[name], stream()
    _, state = mixer(x, mixer.start(2), _all(x), write=False)
    memory = getattr(mixer, "memory")  # noqa: B009
    found = memory.weights(state.memories["memory"])
    for weight, expected in memory.weights(mixer.start(2).memories["memory"]).items():
        assert_near(found[weight], expected)
    assert float((_run(mixer, x) - _run(mixer, x, write=False)).detach().abs().max()) > 1e-3


def test_a_block_adds_its_two_halves_to_the_stream() -> None:
    torch.manual_seed(0)
    block = Block(AttentionOnly(_attention(), DIM), DIM, 12).double()
    x = stream()
    y = x + _run(block.mixer, _normed(x, block.norm.weight))
    half: Any = block.continuum.blocks[0]
    seen = _normed(y, half.norm.weight)
    gate, value = half.gate(seen), half.up(seen)
    expected = y + half.down(gate * torch.sigmoid(gate) * value)
    assert_near(block(x, None, _all(x))[0], expected)


def test_mac_refuses_a_memory_whose_tokens_see_each_other() -> None:
    rule = replace(presets.titans(update_every=4, step_every=4), structure=structure.AttentionMLP())
    mac = MAC(NeuralMemory(DIM, rule=rule), _attention())
    with pytest.raises(ValueError, match="cannot stand still"):
        _run(mac, stream().float())
