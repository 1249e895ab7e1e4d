"""Six memories of one size, in one frame: associative recall and needles.

python -m recipes.memories.run --seed 0 --out recipes/memories/seed-0
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from retain.evaluation import MemoryReset, WritesOff, recall
from retain.tasks import MQAR, Needle
from retain.tasks.needle import Kind
from retain.training import Lesson, Reading, Run, Schedule
from retain.training.describe import described

from ..evidence import CONSOLE, keep, steady

KINDS: tuple[Kind, ...] = ("passkey", "number", "word")
PAIRS = (16, 32, 64, 96)
LENGTHS = (1 << 10, 1 << 11, 1 << 12, 1 << 13)
GATE_RATES = (1.5e-2, 6e-3, 3e-3)
"""Of the outer learning of gates: the first with which training stays finite."""
MEMORIES: dict[str, dict[str, Any]] = {
    "Moneta": {"preset": "moneta", "rule": {"exposed": "boundary"}},
    "Yaad": {"preset": "yaad", "rule": {"threshold": 16.0}},
    "Memora": {"preset": "memora", "rule": {"exposed": "boundary"}},
    "Titans": {"preset": "titans", "rule": {"update_every": 16}},
    "TTT-MLP": {"preset": "ttt_mlp"},
    "DeltaNet": {"preset": "delta_net"},
}
RATES: dict[str, dict[str, float | None]] = {"mqar": {"Moneta": 0.004}, "needle": {"Moneta": 0.004, "Memora": 0.01, "DeltaNet": None}}
"""The largest inner rates that are not the usual ones of a task: None, the structure's own bound, for associations, 0.03 for needles."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What all six have in common on a task, and how wide their memories are.

    The perceptron of depth two has ``8 * width ** 2`` weights; DeltaNet's two matrices, each twice as wide, have as many. Its projections have more, which
    the token-wise halves of the others make up for.
    """

    task: str
    width: int
    model: dict[str, Any]
    memory: dict[str, Any]
    rate: float | None

    def model_of(self, name: str) -> dict[str, Any]:
        """The arguments of ``RetainConfig``."""
        chosen = MEMORIES[name]
        matrix = chosen["preset"] == "delta_net"
        gates = {"lr": 0.5 if matrix else 0.3, "rate": RATES[self.task].get(name, self.rate), **self.memory.get("gates", {})}
        memory = {**self.memory, **chosen, "gates": gates, "heads": 2 if matrix else 1, "head_dim": 2 * self.width if matrix else self.width}
        hidden, conv = self.model["hidden_size"], self.memory["projections"].get("conv", 4)
        more = 3 * self.width * (4 * hidden + 3 * conv)  # numbers in DeltaNet's projections and convolutions, and not in the others'
        inner = 176 if matrix else 176 + round(more / (3 * hidden))
        return {**self.model, "intermediate_size": inner, "memory": memory}


LMM = {"block": "lmm", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "persistent_tokens": 0}
RECALLING = {"projections": {"start": "recall"}, "output": {"gate": None}}
ASSOCIATIONS = Frame(task="mqar", width=64, model=LMM, memory=RECALLING, rate=None)
NEEDLES = Frame(task="needle", width=64, model={**LMM, "write_cost": 0.2}, memory={**RECALLING, "gates": {"curve": "hard", "lr": 0.5}}, rate=0.03)


def associations(pairs: int) -> MQAR:
    """So many pairs, 32 blanks, and each key again."""
    return MQAR(pairs=pairs, vocabulary=256, length=4 * pairs + 32, gap=32)


def needle(kind: Kind, length: int) -> Needle:
    """One needle in a text that says the same again and again."""
    return Needle(kind=kind, length=length)


def runs_of(name: str, seed: int) -> dict[str, dict[str, Run]]:
    """The two trainings of a memory, each at the rates of its gates that are tried in turn."""
    recalling = (
        Lesson(tasks=(associations(16),), steps=300, promote_at=0.99),
        Lesson(tasks=tuple(map(associations, PAIRS[:3])), steps=150),
    )
    finding = (
        Lesson(tasks=tuple(needle(kind, 128) for kind in KINDS), steps=250, promote_at=0.98, write_cost=0.25),
        Lesson(tasks=tuple(needle(kind, length) for kind in KINDS for length in (256, 512)), steps=240),
    )
    how = {"mqar": (ASSOCIATIONS, recalling), "needle": (NEEDLES, finding)}
    return {
        task: {
            f"gates at {rate:g}": Run(
                model=frame.model_of(name), lessons=lessons, reading=Reading(rows=32), schedule=Schedule(gate_lr=rate), seed=seed
            )
            for rate in GATE_RATES
        }
        for task, (frame, lessons) in how.items()
    }


def main(
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    seed: Annotated[int, typer.Option(help="Of weights and samples.")] = 0,
    work: Annotated[Path | None, typer.Option(help="Folder for the trainings, which then go on where they stopped.")] = None,
    only: Annotated[str | None, typer.Option(help="One task: mqar or needle.")] = None,
) -> None:
    """Train each memory on each task, and ask it beyond what it was trained on."""
    asked = {
        "mqar": [({"pairs": pairs}, associations(pairs), 64) for pairs in PAIRS],
        "needle": [({"kind": kind, "length": length}, needle(kind, length), 24) for kind in KINDS for length in LENGTHS],
    }
    with tempfile.TemporaryDirectory() as scratch:
        for (task, cells), by in zip(asked.items(), ("pairs", "kind"), strict=True):
            if only not in (None, task):
                continue
            results = _begun_before(out / f"{task}.json", seed)
            begun = time.perf_counter() - results.get("seconds", 0)
            for name in MEMORIES:
                runs = runs_of(name, seed)[task]
                if results["memories"].get(name, {}).get("training", {}).get("run") in [
                    json.loads(json.dumps(described(run))) for run in runs.values()
                ]:
                    continue
                try:
                    model, about = steady(runs, (work or Path(scratch)) / task / name, f"{name}, {task}")
                except FloatingPointError as astray:
                    results["memories"][name] = {"training": {"run": described(list(runs.values())[-1])}, "astray": str(astray), "rows": []}
                    keep(out / f"{task}.json", results, begun)
                    continue
                rows = []
                for i, (facts, sampled, count) in enumerate(cells):
                    first = (seed << 20) + 1000 * i
                    found = recall(model, sampled, range(first, first + count), controls=(WritesOff(), MemoryReset()), by=by, batch=8, chunk=512)
                    rows += [{**facts, "reading": row.reading, "right": row.exact.right, "asked": row.exact.asked} for row in found.rows()]
                    CONSOLE.print(" ", name, *facts.values(), *(f"{row.reading} {row.exact}  " for row in found.rows()))
                results["memories"][name] = {"training": about, "rows": rows}
                keep(out / f"{task}.json", results, begun)


def _begun_before(path: Path, seed: int) -> dict[str, Any]:
    """What an earlier call left: memories whose training is still the same are not trained again."""
    return json.loads(path.read_text()) if path.exists() else {"seed": seed, "memories": {}}


if __name__ == "__main__":
    typer.run(main)
