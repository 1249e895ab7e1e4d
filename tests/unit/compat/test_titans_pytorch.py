"""titans-pytorch's layer and ours with its weights: the same numbers wherever theirs are right, and better ones where they are not."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import titans_pytorch
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from retain import MemoryState, NeuralMemory, bias
from retain.compat.titans_pytorch import load, state
from retain.engines import Recurrent
from tests.tolerances import GRADIENTS, VALUES, assert_near
from tests.unit.compat.titans_grid import DIM, OPTIONS, arguments, grid, peer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
GRID = grid()


def _named(chosen: dict[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in chosen.items() if value != OPTIONS[name][0]) or "defaults"


def _streams(chosen: dict[str, Any], kind: torch.dtype, time: int) -> tuple[Tensor, Tensor | None]:
    source = torch.Generator().manual_seed(1)
    views = (3,) if chosen["qkv_receives_diff_views"] else ()
    x = torch.randn(*views, 2, time, DIM, generator=source, dtype=torch.float64).to(kind)
    mask = torch.rand(2, time, generator=source) < 0.6
    mask[:, ::4] = True  # a chunk that stores nothing at all is another matter
    return x, mask if chosen["masked"] else None


def _ours(memory: NeuralMemory, x: Tensor, mask: Tensor | None, before: MemoryState | None = None, **others: Any) -> tuple[Any, ...]:
    emphasis = None if mask is None else mask.to(x.dtype)
    if x.ndim == 3:
        return memory(x, before, emphasis=emphasis, **others)
    return memory(x[0], before, store=(x[1], x[2]), emphasis=emphasis, **others)


def _beside(chosen: dict[str, Any], kind: torch.dtype, x: Tensor, x_ours: Tensor, mask: Tensor | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a layer below hands to theirs and to ours, if they take it."""
    if not chosen["accept_weight_residual"]:
        return {}, {}
    below = peer(seed=2, **arguments({**chosen, "accept_weight_residual": False})).to(kind)
    _, after = below(x, **({} if mask is None else {"store_mask": mask}))
    return {"prev_weights": after.updates}, {"beside": _ours(load(below), x_ours, mask, return_weights=True)[2]}


def _settled(memory: NeuralMemory, after: MemoryState) -> dict[str, Tensor]:
    """The weights and moments of a state once all is folded that can be."""
    if after.pending is not None:
        nothing = after.pending.tokens.map(lambda t: t[:, :0])
        queries = nothing.v.new_zeros(after.batch, 0, memory.heads, memory.head_dim)
        after = Recurrent().run(memory.rule, replace(nothing, q=queries), after)[1]
    return {path: t for path, t in after.tensors() if path.startswith(("anchor", "accumulator", "moments"))}


def test_the_grid_holds_every_pair_of_values_that_theirs_allows() -> None:
    assert len(GRID) >= 60
    missing = {
        (a, x, b, y)
        for (a, xs), (b, ys) in itertools.combinations(OPTIONS.items(), 2)
        for x, y in itertools.product(xs, ys)
        if not any(chosen[a] == x and chosen[b] == y for chosen in GRID)
    }
    assert missing == {
        ("chunk_size", 1, "attn_pool_chunks", True),
        ("chunk_size", 1, "store_with_lookahead_value", True),
        ("batch_size", None, "gated_transition", True),
    }


def _both(chosen: dict[str, Any], kind: torch.dtype, nudge: float = 0.0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs, states and gradients of ours and of theirs."""
    theirs = peer(**arguments(chosen)).to(kind)
    ours = load(theirs)
    x, mask = _streams(chosen, kind, 30 if chosen["gated_transition"] else 32)
    x, x_ours = (x * (1 + nudge)).requires_grad_(), x.clone().requires_grad_()
    below, below_ours = _beside(chosen, kind, x, x_ours, mask)
    y, after = theirs(x, **({} if mask is None else {"store_mask": mask}), **below)
    y_ours, after_ours = _ours(ours, x_ours, mask, **below_ours)
    y.square().mean().backward()
    y_ours.square().mean().backward()
    assert x.grad is not None
    assert x_ours.grad is not None
    mine = {"outputs": y_ours, **_settled(ours, after_ours), "gradient of the stream": x_ours.grad, "of the memory": _sizes(ours.initial.values())}
    expected = {
        "outputs": y,
        **_settled(ours, state(after, ours)),
        "gradient of the stream": x.grad,
        "of the memory": _sizes(theirs.memory_model_parameters),
    }
    return mine, expected


def _sizes(weights: Any) -> Tensor:
    """The gradients' sums of squares, least first: the two libraries hold the same ones in different orders."""
    return torch.stack([torch.zeros((), dtype=w.dtype) if w.grad is None else w.grad.square().sum() for w in weights]).sort().values


def _error(found: Tensor, expected: Tensor) -> float:
    return float((found.detach().double() - expected.detach().double()).abs().max()) / (1.0 + float(expected.detach().abs().max()))


@pytest.mark.parametrize("chosen", GRID, ids=_named)
def test_outputs_states_and_gradients_are_theirs(chosen: dict[str, Any]) -> None:
    mine, expected = _both(chosen, torch.float64)
    # Newton-Schulz and their clamp multiply rounding errors by thousands, theirs as well as ours: nobody comes nearer than some of them.
    _, nudged = _both(chosen, torch.float64, nudge=1e-15)
    for name, tensor in mine.items():
        least = (GRADIENTS if name.startswith(("gradient", "of")) else VALUES)[torch.float64]
        assert_near(tensor, expected[name], {torch.float64: max(least, 30 * _error(nudged[name], expected[name]))}, name)
    single, their_single = _both(chosen, torch.float32)
    if chosen["max_grad_norm"] and not all(bool(torch.isfinite(tensor).all()) for tensor in their_single.values()):
        assert all(bool(torch.isfinite(tensor).all()) for tensor in single.values())  # their clamp of a gradient that float32 rounds to zero
        return
    rounding = max(_error(tensor, expected[name]) for name, tensor in their_single.items())
    for name, tensor in single.items():
        assert _error(tensor, their_single[name]) <= max(1e-5, 30 * rounding), f"{name} in float32, where theirs is off by {rounding:.1g} itself"


def test_without_newton_schulz_and_their_clamp_which_makes_small_gradients_large_float32_agrees_to_the_fifth_digit() -> None:
    plain = [chosen for chosen in GRID if not chosen["spectral_norm_surprises"] and chosen["max_grad_norm"] is None]
    assert len(plain) >= 10
    for chosen in plain:
        mine, expected = _both(chosen, torch.float32)
        assert _error(mine["outputs"], expected["outputs"]) <= 1e-5, _named(chosen)


@pytest.mark.parametrize("chosen", [c for c in GRID if not (c["gated_transition"] or c["masked"] or c["accept_weight_residual"])][:20], ids=_named)
def test_aligned_streams_go_on_alike(chosen: dict[str, Any]) -> None:
    theirs = peer(**arguments(chosen))
    ours = load(theirs)
    x, _ = _streams(chosen, torch.float64, 32)
    first, then = x[..., :16, :], x[..., 16:, :]
    y, after = theirs(first)
    _, ours_after = _ours(ours, first, None)
    y, _ = theirs(then, state=after)
    if chosen["network"] != "attention":  # theirs forgets the queries of the call before
        assert_near(_ours(ours, then, None, ours_after)[0], y, what="from our state")
    assert_near(_ours(ours, then, None, state(after, ours))[0], y, what="from theirs")


def test_their_surprise_is_ours() -> None:
    theirs = peer(dim=DIM, chunk_size=4, batch_size=8, num_kv_per_token=2)
    ours = load(theirs)
    x = torch.randn(2, 32, DIM, dtype=torch.float64)
    _, _, (surprise, _) = theirs(x, return_surprises=True)
    _, _, mine = ours(x, return_surprise=True)
    assert_near(mine, surprise.unflatten(-1, (32, 2)).sum(-1).transpose(1, 2))


# ---- from files, and what is refused


def test_a_state_dict_loads_as_its_module_does() -> None:
    given: dict[str, Any] = {"dim": DIM, "chunk_size": 4, "heads": 2, "dim_head": 4, "qk_rmsnorm": True, "init_decay_bias": 1.0}
    theirs = peer(**given)
    x = torch.randn(1, 16, DIM, dtype=torch.float64)
    assert torch.equal(load(theirs.state_dict(), **given)(x)[0], load(theirs)(x)[0])


def test_loading_a_state_dict_needs_nothing_of_theirs() -> None:
    code = "import sys; sys.modules['titans_pytorch'] = None; from retain.compat.titans_pytorch import load; load({}, dim=4)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ValueError: the state dict lacks 'to_queries.weight'" in done.stderr


def test_an_unknown_key_is_refused_by_name() -> None:
    weights = {**peer(dim=DIM).state_dict(), "to_quarks.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"to_quarks\.weight"):
        load(weights, dim=DIM)


def test_a_missing_key_is_refused_by_name() -> None:
    weights = peer(dim=DIM).state_dict()
    del weights["to_momentum.0.bias"]
    with pytest.raises(ValueError, match=r"to_momentum\.0\.bias"):
        load(weights, dim=DIM)


@pytest.mark.parametrize("name", ["to_queries.weight", "memory_model_parameters.1", "to_decay_factor.0.weight", "store_norm.weight"])
def test_a_misshapen_key_is_refused_by_name(name: str) -> None:
    weights = peer(dim=DIM).state_dict()
    weights[name] = torch.cat([weights[name], weights[name]])
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        load(weights, dim=DIM)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dim": DIM, "quarks": 3}, "quarks"),
        ({}, "dim"),
        ({"dim": DIM, "chunk_size": (2, 4)}, "chunk_size"),
        ({"dim": DIM, "activation": nn.PReLU()}, "activation"),
        ({"dim": DIM, "adaptive_step_transform": torch.sigmoid}, "adaptive_step_transform"),
        ({"dim": DIM, "store_memory_loss_fn": torch.dist}, "store_memory_loss_fn"),
    ],
)
def test_arguments_without_a_counterpart_are_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(peer(dim=DIM).state_dict(), **given)


def test_a_loss_of_ours_stands_for_one_of_theirs() -> None:
    theirs = peer(dim=DIM, store_memory_loss_fn=lambda pred, target: -(pred * target).sum(-1))
    ours = load(theirs.state_dict(), dim=DIM, store_memory_loss_fn=bias.Dot())
    x = torch.randn(1, 6, DIM, dtype=torch.float64)
    assert_near(ours(x)[0], theirs(x)[0])


# ---- where theirs is wrong, ours is the oracle's


@pytest.mark.parametrize("cut", [(64, 10), (65, 63), (96, 64), (96, 96)], ids=str)
def test_any_split_of_a_stream_where_theirs_forgets_fails_or_is_wrong(cut: tuple[int, int]) -> None:
    theirs = peer(dim=DIM, chunk_size=64, init_decay_bias=-6.0)
    ours = load(theirs)
    x = torch.randn(1, sum(cut), DIM, dtype=torch.float64)
    oracle = NeuralMemory(DIM, rule=ours.rule, engine="recurrent").double()
    first, then = x.split(cut, dim=1)
    y, after = ours(first)
    y_then, _ = ours(then, after)
    ours.engine = oracle.engine
    whole = ours(x)[0]
    assert_near(torch.cat([y, y_then], dim=1), whole)
    _, their_state = theirs(first)
    if cut == (96, 96):
        with pytest.raises(RuntimeError, match="must match the size"):
            theirs(then, state=their_state)
        return
    wrong = theirs(then, state=their_state)[0]
    assert float((wrong.detach() - whole[:, cut[0] :].detach()).abs().max()) > 1e-3


def test_an_attention_memory_answers_single_tokens_as_it_answers_many() -> None:
    theirs = peer(dim=DIM, chunk_size=4, batch_size=8, model=titans_pytorch.MemoryAttention(DIM))
    ours = load(theirs)
    x = torch.randn(1, 14, DIM, dtype=torch.float64)
    whole, singles, after, their_singles, their_after = theirs(x)[0], [], None, [], None
    for t in range(14):
        y, after = ours(x[:, t : t + 1], after)
        singles.append(y)
        y, their_after = theirs(x[:, t : t + 1], state=their_after)
        their_singles.append(y)
    assert_near(torch.cat(singles, dim=1), whole)
    assert float((torch.cat(their_singles, dim=1) - whole).detach().abs().max()) > 1e-2


def test_a_boundary_that_ends_a_call_is_crossed_all_the_same() -> None:
    theirs = peer(dim=DIM, chunk_size=4, batch_size=8, gated_transition=True)
    ours = load(theirs)
    x = torch.randn(1, 20, DIM, dtype=torch.float64)
    whole = theirs(x)[0]
    assert_near(ours(x[:, :16])[0], whole[:, :16])
    assert float((theirs(x[:, :16])[0] - whole[:, :16]).detach().abs().max()) > 1e-3


def test_a_mask_beside_waiting_tokens() -> None:
    theirs = peer(dim=DIM, chunk_size=4)
    ours = load(theirs)
    x, mask = torch.randn(1, 16, DIM, dtype=torch.float64), torch.rand(1, 16) < 0.5
    whole, _ = ours(x, emphasis=mask.double())
    first, after = ours(x[:, :6], emphasis=mask[:, :6].double())
    then, _ = ours(x[:, 6:], after, emphasis=mask[:, 6:].double())
    assert_near(torch.cat([first, then], dim=1), whole)
    _, their_state = theirs(x[:, :6], store_mask=mask[:, :6])
    with pytest.raises(RuntimeError, match="split_sizes"):
        theirs(x[:, 6:], state=their_state, store_mask=mask[:, 6:])


def test_a_clamp_of_nothing_is_nothing() -> None:
    theirs = peer(dim=DIM, chunk_size=4, max_grad_norm=2.0)
    ours = load(theirs)
    x = torch.randn(1, 8, DIM, dtype=torch.float64)
    none = torch.zeros(1, 8)
    assert bool(torch.isfinite(ours(x, emphasis=none.double())[0]).all())
    assert bool(torch.isnan(theirs(x, store_mask=none.bool())[0]).any())


def test_several_heads_take_an_optimizer_step_and_load_a_state_dict_on_the_cpu() -> None:
    theirs = titans_pytorch.NeuralMemory(dim=DIM, heads=2, dim_head=4, chunk_size=4)
    ours = load(theirs)
    x = torch.randn(1, 8, DIM)
    ours(x)[0].square().mean().backward()
    torch.optim.AdamW(ours.parameters()).step()
    ours.load_state_dict(load(theirs).state_dict())
    theirs(x)[0].square().mean().backward()
    with pytest.raises(RuntimeError, match="single memory location"):
        torch.optim.AdamW(theirs.parameters()).step()


def test_every_weight_takes_part_so_that_none_is_unused_in_parallel_training() -> None:
    theirs = peer(dim=DIM, chunk_size=4, batch_size=8, num_kv_per_token=2, qk_rmsnorm=True)
    ours = load(theirs)
    x = torch.randn(1, 16, DIM, dtype=torch.float64)
    ours(x)[0].square().mean().backward()
    theirs(x)[0].square().mean().backward()
    assert [name for name, weight in ours.named_parameters() if weight.grad is None] == []
    assert [name for name, weight in theirs.named_parameters() if weight.grad is None] != []


def test_weights_share_no_storage_so_that_safetensors_takes_them(tmp_path: Path) -> None:
    theirs = titans_pytorch.NeuralMemory(dim=DIM, chunk_size=4)
    ours = load(theirs)
    save_file(ours.state_dict(), tmp_path / "ours.safetensors")
    ours.load_state_dict(load_file(tmp_path / "ours.safetensors"))
    with pytest.raises(RuntimeError, match="share memory"):
        save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")


def test_a_state_does_not_grow_with_what_was_read() -> None:
    theirs = peer(dim=DIM, chunk_size=4, batch_size=8)
    ours = load(theirs)
    sizes, their_sizes = [], []
    with torch.no_grad():
        for time in (64, 512):
            x = torch.randn(1, time, DIM, dtype=torch.float64)
            sizes.append(sum(t.numel() for _, t in ours(x)[1].tensors()))
            their_sizes.append(sum(t.numel() for t in theirs(x)[1].updates.values()))
    assert sizes[0] == sizes[1]
    assert their_sizes[1] > 6 * their_sizes[0]


def test_a_new_layer_is_surprised_less_by_what_it_has_seen_and_a_new_one_of_theirs_is_not() -> None:
    torch.manual_seed(0)
    ours, theirs = NeuralMemory(DIM), titans_pytorch.NeuralMemory(dim=DIM, chunk_size=64)
    x = torch.randn(1, 64, DIM).repeat(1, 8, 1)
    surprise = ours(x, return_surprise=True)[2].unflatten(1, (8, 64)).mean((0, 2, 3))
    assert bool((surprise.diff() < 0).all())
    theirs_is = theirs(x, return_surprises=True)[2][0].unflatten(-1, (8, 64)).mean((0, 1, 3))
    assert float(theirs_is.detach().diff().abs().max()) < 1e-5


def test_rows_of_different_lengths_are_rows_by_themselves() -> None:
    ours = load(peer(dim=DIM, chunk_size=4, batch_size=8))
    x, lengths = torch.randn(2, 19, DIM, dtype=torch.float64), (19, 6)
    y, after = ours(x, mask=torch.arange(19) < torch.tensor(lengths)[:, None])
    more = torch.randn(2, 5, DIM, dtype=torch.float64)
    later = ours(more, after)[0]
    for row, length in enumerate(lengths):
        alone, own = ours(x[row : row + 1, :length])
        assert_near(y[row : row + 1, :length], alone)
        assert_near(later[row : row + 1], ours(more[row : row + 1], own)[0])
