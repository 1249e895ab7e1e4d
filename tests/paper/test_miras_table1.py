"""MIRAS Table 1, row by row: each preset against the recurrence of its own paper, written out by hand in columns, M [value, key]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retain import MemoryRule, presets
from tests.cases import JUDGE, willing
from tests.streams import run, world
from tests.tolerances import assert_near

TIME, WIDTH = 20, 4
EYE = torch.eye(WIDTH, dtype=torch.float64)
Params = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token of one head: key, value and gates."""

    k: Tensor
    v: Tensor
    lr: Tensor
    retain: Tensor
    momentum: Tensor
    threshold: Tensor


def _decayed(m: Tensor, t: Token) -> Tensor:
    return t.retain * m + t.lr * torch.outer(t.v, t.k)


def _gla(m: Tensor, t: Token) -> Tensor:
    return m @ torch.diag(t.retain) + t.lr * torch.outer(t.v, t.k)


def _hgrn2(m: Tensor, t: Token) -> Tensor:
    return m @ torch.diag(t.retain) + t.lr * torch.outer(t.v, 1 - t.retain)


def _fast_weights(m: Tensor, t: Token) -> Tensor:
    return torch.outer(t.retain[WIDTH:], t.retain[:WIDTH]) * m + t.lr * torch.outer(t.v, t.k)


def _delta(m: Tensor, t: Token) -> Tensor:
    return m @ (EYE - t.lr * torch.outer(t.k, t.k)) + t.lr * torch.outer(t.v, t.k)


def _gated_delta(m: Tensor, t: Token) -> Tensor:
    return _delta(t.retain * m, t)


def _rwkv7(m: Tensor, t: Token) -> Tensor:
    return m @ (torch.diag(t.retain) - t.lr * torch.outer(t.k, t.k)) + t.lr * torch.outer(t.v, t.k)


def _longhorn(m: Tensor, t: Token) -> Tensor:
    delta = t.lr / (1 + t.lr * t.k @ t.k)
    return m @ (EYE - delta * torch.outer(t.k, t.k)) + delta * torch.outer(t.v, t.k)


MATRICES: dict[str, Callable[[Tensor, Token], Tensor]] = {
    "linear_attention": lambda m, t: m + t.lr * torch.outer(t.v, t.k),
    "retnet": _decayed,
    "lightning_attention": _decayed,
    "mamba2": _decayed,
    "gla": _gla,
    "hgrn2": _hgrn2,
    "decaying_fast_weights": _fast_weights,
    "delta_net": _delta,
    "gated_delta_net": _gated_delta,
    "rwkv7": _rwkv7,
    "longhorn": _longhorn,
}


def _net(w: Params, x: Tensor) -> Tensor:
    """x + LN(W_1 gelu(W_2 x)), or x + LN(W x)."""
    hidden = F.gelu(x @ w["w0"]) @ w["w1"] if "w1" in w else x @ w["w0"]
    return x + F.layer_norm(hidden, (WIDTH,), eps=1e-5) * (1 + w["gain"])


def _slopes(w: Params, t: Token, loss: Callable[[Tensor], Tensor]) -> Params:
    leaves = {name: x.clone().requires_grad_() for name, x in w.items()}
    found = torch.autograd.grad(loss(_net(leaves, t.k) - t.v), list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


def _half(r: Tensor) -> Tensor:
    return r.square().sum() / 2


def _ttt(w: Params, s: Params, t: Token) -> tuple[Params, Params]:
    g = _slopes(w, t, _half)
    return {name: w[name] - t.lr * g[name] for name in w}, s


def _titans(w: Params, s: Params, t: Token) -> tuple[Params, Params]:
    g = _slopes(w, t, _half)
    s = {name: t.momentum * s[name] - t.lr * g[name] for name in w}
    return {name: t.retain * w[name] + s[name] for name in w}, s


def _yaad(w: Params, s: Params, t: Token) -> tuple[Params, Params]:
    small = bool((_net(w, t.k) - t.v).norm() <= t.threshold)
    g = _slopes(w, t, _half if small else lambda r: t.threshold * r.abs().sum())
    return {name: t.retain * w[name] - t.lr * g[name] for name in w}, s


DEEP: dict[str, Callable[[Params, Params, Token], tuple[Params, Params]]] = {"ttt_linear": _ttt, "ttt_mlp": _ttt, "titans": _titans, "yaad": _yaad}
ELSEWHERE = {
    "transformer": "the memory is the set of all tokens; softmax attention in tests/paper, Titans equations 1 and 2",
    "delta_product": "tests/paper/test_learners.py",
    "moneta": "tests/paper, MIRAS equation 24",
    "memora": "tests/paper, MIRAS equation 27",
}


def _tokens(rule: MemoryRule, tied: bool = False) -> tuple[object, list[Token]]:
    here = world(rule, 3, batch=1, time=TIME, heads=1, key=WIDTH, value=WIDTH)
    if tied:
        assert here.tokens.retain is not None
        here = replace(here, tokens=replace(here.tokens, k=(1 - here.tokens.retain).unsqueeze(3)))
    x, one = here.tokens, torch.ones((), dtype=torch.float64)
    tokens = [
        Token(
            k=x.k[0, t, 0, 0],
            v=x.v[0, t, 0, 0],
            lr=x.lr[0, t, 0, 0],
            retain=one if x.retain is None else x.retain[0, t, 0],
            momentum=one if x.momentum is None else x.momentum[0, t, 0, 0],
            threshold=one if x.threshold is None else x.threshold[0, t, 0, 0],
        )
        for t in range(TIME)
    ]
    return here, tokens


@pytest.mark.equation("miras", "table 1")
@pytest.mark.equation("titans", 32)
@pytest.mark.parametrize("name", MATRICES)
def test_a_matrix_of_the_table(name: str) -> None:
    rule: MemoryRule = getattr(presets, name)()
    here, tokens = _tokens(rule, tied=name == "hgrn2")
    m, q, outputs = here.initial["w"][0].T, here.tokens.q[0, :, 0], []  # pyright: ignore[reportAttributeAccessIssue]
    for t, token in enumerate(tokens):
        m = MATRICES[name](m, token)
        outputs.append(m @ q[t])
    for engine in [*willing(rule), JUDGE]:
        outcome = run(here, [engine])  # pyright: ignore[reportArgumentType]
        assert_near(outcome.y[0, :, 0], torch.stack(outputs), what=f"outputs of {engine}")
        assert_near(outcome.state.accumulator["w"][0, 0], m.T, what=f"memory of {engine}")


@pytest.mark.equation("miras", "table 1")
@pytest.mark.parametrize("name", DEEP)
def test_a_network_of_the_table(name: str) -> None:
    rule: MemoryRule = getattr(presets, name)(update_every=1)
    here, tokens = _tokens(rule)
    w = {label: x[0] for label, x in here.initial.items()}  # pyright: ignore[reportAttributeAccessIssue]
    s, q, outputs = {label: torch.zeros_like(x) for label, x in w.items()}, here.tokens.q[0, :, 0], []  # pyright: ignore[reportAttributeAccessIssue]
    for t, token in enumerate(tokens):
        w, s = DEEP[name](w, s, token)
        outputs.append(_net(w, q[t]))
    for engine in [*willing(rule)[:1], JUDGE]:
        outcome = run(here, [engine])  # pyright: ignore[reportArgumentType]
        assert_near(outcome.y[0, :, 0], torch.stack(outputs), {torch.float64: 1e-8}, what=f"outputs of {engine}")


def test_each_of_the_nineteen_rows_has_its_reference() -> None:
    rows = {*MATRICES, *DEEP, *ELSEWHERE}
    assert len(rows) == 19
    for name in rows - {"transformer"}:
        assert isinstance(getattr(presets, name)(), MemoryRule)
