"""Telemetry: the numbers are those of the modules, padding and recomputation are not counted, and the write cost has the right gradient."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from retain.retrofit import CollapsedGate, MemoryCache, SurprisingTokens, branches_of, disable_memory, watch, writing
from retain.retrofit.reading import Watcher
from retain.retrofit.telemetry import COLUMNS
from tests.unit.retrofit.bases import base, retrofitted, words


def _inputs(model: Any, tokens: Tensor) -> list[Tensor]:
    """What each layer with a memory is given."""
    seen: list[Tensor] = []
    hooks = [branch.register_forward_pre_hook(lambda module, args: seen.append(args[0])) for branch in branches_of(model)]
    with torch.no_grad():
        model(tokens)
    for hook in hooks:
        hook.remove()
    return seen


def test_the_first_branchs_numbers_are_those_of_its_modules() -> None:
    model, tokens = retrofitted(layers=(1,)), words(2, 13)
    branch, (x,) = branches_of(model)[0], _inputs(model, tokens)
    with torch.no_grad(), watch(model) as seen:
        model(tokens)
        gate = torch.tanh(branch.strength) * torch.sigmoid(branch.to_gate(x))
        said, state, surprise = branch.memory(x, return_surprise=True)
        (row,) = seen.report()
        start = branch.memory.start(2)
        expected = {
            "gate": gate.mean(),
            "shut": torch.zeros(()),
            "writes": branch.memory.write_cost(x),
            "surprise": surprise.mean(),
            "said": said.square().mean(-1).sqrt().mean(),
            "norm": sum((n.square().mean() for n in state.norms().values()), torch.zeros(())).sqrt(),
            "distance": sum((n.square().mean() for n in state.distance(start).values()), torch.zeros(())).sqrt(),
        }
    assert (row["layer"], row["tokens"]) == ("layers.1.self_attn", 26)
    assert [*expected] == [*COLUMNS]
    for name, value in expected.items():
        assert row[name] == pytest.approx(float(value), rel=1e-9), name
    assert row["distance"] > 0
    assert isinstance(seen, Watcher)


def test_calls_add_up_padding_is_not_counted_and_chosen_writes_are_seen_alike() -> None:
    model, tokens = retrofitted(), words(2, 12)
    with torch.no_grad():
        with watch(model) as whole:
            model(tokens)
        with watch(model) as parts:
            cache = MemoryCache(model.config)
            for part in tokens.split([5, 1, 6], 1):
                model(part, past_key_values=cache)
        mask = torch.ones(2, 15, dtype=torch.long)
        mask[:, :3] = 0
        with watch(model) as padded:
            model(torch.cat([torch.zeros(2, 3, dtype=torch.long), tokens], 1), attention_mask=mask)
        with watch(model) as chosen, writing(model, SurprisingTokens(0.0)):
            model(tokens)
    for other in (parts, padded, chosen):
        for one, two in zip(whole.report(), other.report(), strict=True):
            assert (two.pop("layer"), two) == (one.pop("layer"), pytest.approx(one, rel=1e-7))


def test_what_is_not_watched_or_switched_off_is_not_seen() -> None:
    model, tokens = retrofitted(), words()
    with torch.no_grad(), watch(model) as outer:
        with watch(model) as inner:
            model(tokens)
        with disable_memory(model):
            model(tokens)
        assert outer.report() == []
        model(tokens)
    model(tokens)
    assert [row["tokens"] for row in inner.report()] == [26, 26]
    assert outer.report() == inner.report()
    with pytest.raises(ValueError, match="nothing was read"), watch(model) as seen:
        seen.write_cost()
    with pytest.raises(ValueError, match="has no memories"), watch(base()):
        pass


def test_the_table_holds_the_report() -> None:
    model = retrofitted()
    with torch.no_grad(), watch(model) as seen:
        model(words())
    head, *lines = seen.table().splitlines()
    assert head.split() == ["layer", "tokens", *COLUMNS]
    assert len({len(line) for line in (head, *lines)}) == 1
    for line, row in zip(lines, seen.report(), strict=True):
        layer, tokens, *numbers = line.split()
        assert (layer, int(tokens)) == (row["layer"], row["tokens"])
        assert [float(number) for number in numbers] == pytest.approx([row[name] for name in COLUMNS], rel=1e-3)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_write_cost_has_the_gates_gradient_and_recomputation_is_not_counted(checkpointing: bool) -> None:
    model, tokens = retrofitted(), words()
    plain = _gradients(model, tokens, margin=0.2)
    if checkpointing:
        model.train()
        model.activation_checkpointing_enable({"use_reentrant": False})
    with watch(model, keep_graph=True, margin=0.2) as seen:
        loss = model(tokens, use_cache=False).logits.square().mean() + seen.write_cost()
        before = seen.report()
        loss.backward()
        assert seen.report() == before
    assert [row["tokens"] for row in before] == [26, 26]
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(weight.grad, plain[name])
            weight.grad = None


def _gradients(model: Any, tokens: Tensor, margin: float) -> dict[str, Tensor | None]:
    """Those of the loss and the write cost, the latter from what each branch was given."""
    costs: list[Tensor] = []
    hooks = [
        branch.register_forward_pre_hook(lambda module, args: costs.append(module.memory.write_cost(args[0], margin)))
        for branch in branches_of(model)
    ]
    (model(tokens, use_cache=False).logits.square().mean() + torch.stack(costs).mean()).backward()
    for hook in hooks:
        hook.remove()
    found = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return found


def test_without_a_graph_nothing_is_kept() -> None:
    model = retrofitted()
    with watch(model) as seen:
        model(words())
    assert not seen.write_cost().requires_grad


@pytest.mark.parametrize(("bias", "strength", "warns"), [(-20.0, 0.5, 2), (20.0, -0.5, 2), (0.0, 1e-6, 0), (-20.0, 0.0, 0)])
def test_a_gate_that_no_longer_chooses_is_told(bias: float, strength: float, warns: int) -> None:
    model = retrofitted()
    with torch.no_grad():
        for branch in branches_of(model):
            branch.to_gate.bias.fill_(bias)
            branch.strength.fill_(strength)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with watch(model):
                model(words(4, 64))
            with watch(model):
                model(words(4, 63))
    assert [warning.category for warning in told] == [CollapsedGate] * warns
    if warns:
        assert "layers.0.self_attn" in str(told[0].message)
        assert __file__ == told[0].filename
