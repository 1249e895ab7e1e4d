"""What the demonstration does, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retain import Gates, presets

from .model import ByteModelConfig

LONGEST = 1 << 20
QUICK_LONGEST = 1 << 16
SHORTEST = 1024


@dataclass(frozen=True, kw_only=True)
class NeedlePlan:
    """The first part: a needle in a haystack.

    Args:
        steps: Updates of the training.
        asked: Lengths of the haystacks, each with how many there are.
        call: Bytes a call while streaming.
        in_full: Up to this length the control without writes reads the whole haystack; beyond, its last ``call`` bytes.
        batch: Bytes an update of the training reads, over all rows.
    """

    steps: int
    asked: tuple[tuple[int, int], ...]
    call: int = 4096
    in_full: int = 65536
    batch: int = 4096

    model = ByteModelConfig(gates=Gates(curve="hard", rate=0.03, forget_max=0.01, lr=0.5, momentum=0.12, forget=0.0033))
    write_cost = 0.2
    chaff_cost = 8.0
    margin = 2.5

    def lengths(self, step: int) -> tuple[int, ...]:
        """The lengths of lessons that an update draws from; none is above 512.

        Those of 256 and more come when the gates have learnt to leave most bytes alone: a memory that writes all of a long run of equal bytes at the
        weights of one boundary overshoots.
        """
        curriculum = ((0, (64,)), (40, (64, 128)), (115, (128, 256)), (150, (128, 256, 512)))
        return [lengths for start, lengths in curriculum if step >= start][-1]

    def cost_share(self, step: int) -> float:
        """How much of the costs of writing counts at an update: nothing until the memory is of use, then all."""
        return min(1.0, max(0.0, (step - 80) / 30))


@dataclass(frozen=True, kw_only=True)
class CodePlan:
    """The second part: reading code.

    Args:
        steps: Updates of the training, of the model and of its control alike.
        bytes: The most bytes of the held-out package that are read.
        bins: Stretches that the result is told for.
        call: Bytes a call while reading.
        lr: The highest learning rate, of the gates too.
        rows: Streams that the training reads side by side.
    """

    steps: int
    bytes: int | None = None
    bins: int = 32
    call: int = 4096

    lr: float = 5e-3
    rows: int = 8

    model = ByteModelConfig(reach=8, rule=presets.delta_net(), gates=Gates(lr=0.5))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All of it.

    Args:
        seed: Of weights, lessons and haystacks.
        needle: The first part.
        code: The second part.
    """

    seed: int
    needle: NeedlePlan
    code: CodePlan

    @classmethod
    def of(cls, seed: int, length: int, quick: bool) -> Plan:
        """The plan for a longest haystack of ``length`` bytes.

        Raises:
            ValueError: ``length`` is out of range.

        Examples:
            >>> Plan.of(seed=0, length=65536, quick=False).needle.asked
            ((4096, 16), (65536, 8))
        """
        if length < SHORTEST:
            raise ValueError(f"--length must be at least {SHORTEST}, got {length}. The full demonstration has {LONGEST}.")
        shorter = ((4096, 16),) if quick else ((4096, 16), (65536, 8))
        longest = 8 if length <= 65536 and not quick else 4
        asked = (*((size, count) for size, count in shorter if size < length), (length, longest))
        if quick:
            return cls(seed=seed, needle=NeedlePlan(steps=160, asked=asked, in_full=4096), code=CodePlan(steps=64, bytes=65536, bins=16))
        return cls(seed=seed, needle=NeedlePlan(steps=250, asked=asked), code=CodePlan(steps=480))

    def options(self) -> dict[str, Any]:
        """What decides the results, ready for JSON."""
        return {
            "seed": self.seed,
            "needle_steps": self.needle.steps,
            "needles": [list(pair) for pair in self.needle.asked],
            "code_steps": self.code.steps,
            "code_bytes": self.code.bytes,
            "needle_model": repr(self.needle.model),
            "code_model": repr(self.code.model),
        }
