"""A new attentional bias in twenty lines: what a memory is asked to hold, and how much it minds what is far off.

    python examples/your_bias.py

The bias is one method, ``loss``; ``grad`` is only faster, and a claim. What one sees: the claim against automatic differentiation, every engine that runs the
rule against the oracle, in outputs and in gradients through every write, and why one engine does not run it.
"""

import argparse
from dataclasses import dataclass

import torch
from torch import Tensor

from retain import MemoryRule, NeuralMemory, learner, retention, structure
from retain.core.contracts import AbstractBias
from retain.engines.select import ENGINES


@dataclass(frozen=True, kw_only=True)
class Cauchy(AbstractBias):
    """The error of a value that is Cauchy distributed: a square near it, a logarithm far from it."""

    scale: float = 1.0

    def loss(self, y: Tensor, v: Tensor) -> Tensor:
        return self.scale**2 / 2 * torch.log1p(((y - v) / self.scale).square()).sum(-1)

    def grad(self, y: Tensor, v: Tensor) -> Tensor:
        return (y - v) / (1 + ((y - v) / self.scale).square())


def run(memory: NeuralMemory, x: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs, and the gradient of their squares at the stream, through every write."""
    y, _ = memory(x.requires_grad_())
    return y.detach(), torch.autograd.grad(y.square().sum(), x)[0]


parser = argparse.ArgumentParser(description="A new attentional bias in twenty lines.")
parser.add_argument("--time", type=int, default=100, help="tokens of the stream")
x = torch.randn(2, parser.parse_args().time, 16, dtype=torch.float64)

y, v = torch.randn(2, 1000, 8, dtype=torch.float64)
claimed, taken = Cauchy().grad(y, v), AbstractBias.grad(Cauchy(), y, v)
print(f"gradient by hand and by autograd differ by {(claimed - taken).abs().max():.0e}")

rule = MemoryRule(structure=structure.MLP(), bias=Cauchy(), retention=retention.Decay(), learner=learner.Momentum(), update_every=16)
oracle = NeuralMemory(16, heads=2, rule=rule, engine="recurrent").double()
meant = run(oracle, x)
for engine in ENGINES:
    why_not = engine.why_not(rule)
    if why_not is not None:
        print(f"{engine.name}: {why_not}")
        continue
    memory = NeuralMemory(16, heads=2, rule=rule, engine=engine).double()
    memory.load_state_dict(oracle.state_dict())
    output, gradient = (float((a - b).abs().max()) for a, b in zip(run(memory, x), meant, strict=True))
    print(f"{engine.name}: outputs differ by {output:.0e}, gradients by {gradient:.0e}")
