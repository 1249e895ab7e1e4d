"""Self-modifying Titans written out in the paper's letters, where vectors are columns and a memory acts from the left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from retain import MemoryState, Output
from retain.layers import Rates, SelfModifyingMemory, SelfModifyingRule
from retain.memory.structure import Matrix, ResidualMLP
from tests.tolerances import assert_near

EXACT = {torch.float64: 1e-10}
DIM, HEADS, WIDTH, LONG = 6, 2, 3, 11
NUMBERS = ("eta", "alpha")
OTHERS = ("k", "v", "eta", "alpha")
Weights = list[Tensor]  # [M], or [W_2, W_1]


def stream(time: int = LONG, seed: int = 0) -> Tensor:
    return torch.randn(1, time, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(
    structure: Matrix | ResidualMLP, rule: SelfModifyingRule, adaptive: Sequence[str] = (*OTHERS, "memory"), **given: object
) -> SelfModifyingMemory:
    """A layer in float64 whose output is the memory's answer, and whose memories do not stand where they start."""
    torch.manual_seed(0)
    settings = {"heads": HEADS, "rates": Rates(eta=0.4, alpha=0.9), "conv": 1, "output": Output(norm=None, gate=None, project=False), **given}
    memory = SelfModifyingMemory(DIM, structure=structure, rule=rule, adaptive=frozenset(adaptive), **settings).double()  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for weight in memory.parameters():
            weight += 0.4 * torch.randn_like(weight)
    return memory


def weights_of(params: dict[str, Tensor], name: str) -> Weights:
    """Those of a memory in the paper's convention: a matrix, or W_2 and W_1."""
    return [params[path].detach().t() for path in (f"{name}_w", f"{name}_w0", f"{name}_w1") if path in params]


def says(name: str, weights: Weights, x: Tensor) -> Tensor:
    """M(x), with M(x) = x + W_1 sigma(W_2 x) for perceptrons; without the residual for what is a number."""
    if len(weights) == 1:
        return weights[0] @ x
    return (0.0 if name in NUMBERS else x) + weights[1] @ F.gelu(weights[0] @ x)


@dataclass
class Head:
    """One head of a layer on a stream: its memories as they were behind each token, M[name][t], the first at t = 0."""

    memory: SelfModifyingMemory
    x: Tensor  # [time, width]
    q: Tensor | None
    M: dict[str, list[Weights]]
    bias: dict[str, Tensor]

    @classmethod
    def of(cls, memory: SelfModifyingMemory, x: Tensor, head: int) -> Head:
        initial = {path: w[head] for path, w in memory.initial.items()}
        names = [name for name in (*OTHERS, "q", "memory") if any(path.startswith(f"{name}_") for path in initial)]
        q = None if memory.to_q is None else (x[0] @ memory.to_q.weight.t()).detach()[:, head * WIDTH : (head + 1) * WIDTH]
        bias = {name: b[head].detach() for name, b in memory.biases.items()}
        return cls(memory, x[0, :, head * WIDTH : (head + 1) * WIDTH], q, {name: [weights_of(initial, name)] for name in names}, bias)

    def unit(self, name: str, z: Tensor) -> Tensor:
        return z / (z.square().sum() + 1e-6).sqrt() if name in self.memory.rule.unit else z

    def xi(self, name: str, t: int) -> int:
        """C (ceil(t / C) - 1)."""
        rule = self.memory.rule
        chunk = rule.chunk if name == "memory" else rule.projection_chunk or rule.chunk
        return chunk * (math.ceil(t / chunk) - 1)

    def frozen(self, name: str, t: int) -> Weights:
        """The memory at the last boundary before token t."""
        return self.M[name][self.xi(name, t) if name in self.memory.adaptive else 0]

    def made(self, t: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """q_t, k_t, v_t, eta_t and alpha_t, all by the memories at the last boundary."""
        raw = {name: says(name, self.frozen(name, t), self.x[t - 1]) for name in self.M if name != "memory"}
        q, k, v = (self.unit(name, self.q[t - 1] if name == "q" and self.q is not None else raw[name]) for name in ("q", "k", "v"))
        eta = torch.sigmoid(raw["eta"] + self.bias["eta"])
        alpha = torch.sigmoid(raw["alpha"] + self.bias["alpha"]) if "alpha" in raw else torch.ones(())
        return q, k, v, eta, alpha

    def write(self, name: str, t: int) -> None:
        """M_t = M_{t-1} (alpha_t I - eta_t k_t k_t^T) - eta_t grad L(M_xi; k_t, v_hat_t), the factor without its second part for W_1; grad by autograd."""
        rule, frozen = self.memory.rule, self.frozen(name, t)
        _, k, v, eta, alpha = self.made(t)
        shared = v.mean().reshape(1) if name in NUMBERS else v
        target = says(name, frozen, v) if rule.targets == "self-generated" else shared
        moved = [w.clone().requires_grad_() for w in frozen]
        answer = says(name, moved, k)
        loss = 0.5 * (answer - target).square().sum() if rule.objective == "l2" else -(answer * target).sum()
        after = []
        for i, (w, g) in enumerate(zip(self.M[name][t - 1], torch.autograd.grad(loss, moved), strict=True)):
            factor = alpha * torch.eye(w.shape[1], dtype=w.dtype)
            if i == 0 and rule.update == "dgd":
                factor = factor - eta * torch.outer(k, k)
            after.append(w @ factor - eta * g)
        self.M[name].append(after)

    def run(self) -> Tensor:
        """All tokens: the outputs [time, width]."""
        outputs = []
        for t in range(1, len(self.x) + 1):
            outputs.append(says("memory", self.frozen("memory", t), self.made(t)[0]))
            for name in self.memory.adaptive:
                self.write(name, t)
        return torch.stack(outputs)


@torch.no_grad()
def agrees(memory: SelfModifyingMemory, x: Tensor) -> None:
    """The layer gives the outputs and the last memories of the recurrence."""
    y, state = memory(x)
    for head in range(HEADS):
        hand = Head.of(memory, x, head)
        with torch.enable_grad():
            outputs = hand.run().detach()
        assert_near(y[0, :, head * WIDTH : (head + 1) * WIDTH], outputs, EXACT, "outputs")
        last = {path: w[0, head] for path, w in state.accumulator.items()}
        for name in memory.adaptive:
            for found, expected in zip(weights_of(last, name), hand.M[name][-1], strict=True):
                assert_near(found, expected.detach(), EXACT, name)


def parts(state: MemoryState, name: str, head: int = 0) -> Weights:
    return weights_of({path: w[0, head] for path, w in state.accumulator.items()}, name)
