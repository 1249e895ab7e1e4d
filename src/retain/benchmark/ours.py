"""This library's memory in a setting of the benchmark, made so that it computes what the peer's does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from retain.core.engine import AbstractEngine
from retain.core.rule import MemoryRule
from retain.core.state import MemoryState
from retain.layers import Gates, NeuralMemory, Output, Projections
from retain.memory.bias import L2
from retain.memory.learner import Momentum
from retain.memory.retention import Decay
from retain.memory.structure import MLP, NormResidual

from .settings import Setting

# The peer's gates start at a half: learn at full tilt, forget half of everything with each step. Over 1,024 steps that recurrence multiplies a rounding
# error by a million, so no two float32 programs agree on it. STEADY is a memory as training leaves it, which keeps 99.75% a step.
STEADY, HALF_OPEN = -6.0, 0.0

GATES = Gates(curve="sigmoid", rate=1.0, damped=False, pool="mean")


@dataclass(frozen=True, kw_only=True)
class Ours:
    """Builds our side of a comparison.

    Args:
        engine: Which engine runs the rule.

    Examples:
        >>> from retain.benchmark.settings import Setting
        >>> small = Setting(name="small", time=8, heads=2, head_dim=4, step_every=1, update_every=4, dim=8)
        >>> y, state = Ours().build(small)(torch.zeros(1, 8, 8))
    """

    engine: str | AbstractEngine = "auto"

    def build(self, setting: Setting) -> Prenormed:
        """The layer, with weights drawn from torch's generator."""
        many = setting.heads > 1
        memory = NeuralMemory(
            setting.dim,
            heads=setting.heads,
            head_dim=setting.head_dim,
            rule=rule(setting),
            gates=GATES,
            projections=Projections(conv=1, activation=None, norm=None),
            output=Output(norm=None, gate="head" if many else None, project=many),
            engine=self.engine,
        )
        return Prenormed(setting.dim, memory)


def rule(setting: Setting) -> MemoryRule:
    """The peer's default memory as a rule: a perceptron of two layers with layer norm and residual, squared error averaged over the head's width."""
    return MemoryRule(
        structure=NormResidual(inner=MLP(depth=2, expansion=4.0)),
        bias=L2(scale=1 / setting.head_dim),
        retention=Decay(),
        learner=Momentum(),
        update_every=setting.update_every,
        step_every=setting.step_every,
    )


class Prenormed(nn.Module):
    """A memory behind an RMS norm of its input, which the peer has built in (twice: for reading and for writing)."""

    def __init__(self, dim: int, memory: NeuralMemory) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim)
        self.memory = memory

    def forward(self, x: Tensor, state: MemoryState | None = None) -> tuple[Tensor, MemoryState]:
        y, after, *_ = self.memory(self.norm(x), state)
        return y, after


def weights(setting: Setting, gate: float = STEADY, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """Slow weights for our layer of a setting by name, and tokens [1, time, dim]: the same ones wherever they are drawn.

    Args:
        setting: Which memory.
        gate: Where the gates of learning and forgetting start, before the sigmoid.
        seed: Of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: tuple(parameter.shape) for name, parameter in Ours().build(setting).named_parameters()}
    drawn = {name: _draw(name, shape, generator) for name, shape in shapes.items()}
    lr, momentum, forget = drawn["memory.gates.bias"].chunk(3)
    drawn["memory.gates.bias"] = torch.cat([lr + gate, momentum, forget + gate])
    return drawn, torch.randn(1, setting.time, setting.dim, generator=generator)


def _draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Values of the size that the peer starts from, but none of them special: gains off one, gate biases off zero, every head its own."""
    noise = torch.randn(shape, generator=generator)
    if name.endswith(("norm.weight", "gain")):
        return 0.1 * noise + (1.0 if name.endswith("weight") else 0.0)
    if len(shape) == 1:
        return 0.1 * noise
    wide = shape[-2] + shape[-1]  # Xavier for memory matrices, about torch's default for projections
    return noise * ((2 / wide) ** 0.5 if "initial" in name else (3 * shape[-1]) ** -0.5)
