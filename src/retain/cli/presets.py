"""`retain presets`: the memories that have a name."""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from retain.engines import select
from retain.layers.described import presets_by_name

_ATTENTION = (
    "$y_t = \\sum_i \\mathrm{softmax}_i(q_t k_i) v_i$: no rule but ``retain.layers.Attention`` (MIRAS Table 1).",
    "Vaswani et al. 2017, Attention Is All You Need (arXiv:1706.03762).",
)


def presets() -> None:
    """Print the memories that have a name: what each is made of, the engine that runs it, and its paper."""
    table = Table("name", "structure", "bias", "retention", "learner", "clocks", "engine", "what it is", "paper")
    for name, preset in presets_by_name().items():
        rule = preset()
        clocks = f"update {rule.update_every}, step {rule.step_every}, reads {rule.reads}"
        about = inspect.getdoc(preset) or ""
        source = next((line.removeprefix("Source: ") for line in about.splitlines() if line.startswith("Source: ")), "")
        parts = (rule.structure, rule.bias, rule.retention, rule.learner)
        table.add_row(name, *(_said(part) for part in parts), clocks, select(rule).name, about.splitlines()[0], source)
    table.add_row("softmax attention", "all tokens", "L2", "none", "none (Nadaraya-Watson)", "", "torch", *_ATTENTION)
    Console(width=None if Console().is_terminal else 240).print(table)


def _said(part: Any) -> str:
    """A part's kind, and what differs from its defaults."""
    if not is_dataclass(part) or isinstance(part, type):
        return str(part)
    changed = [f"{f.name}={_said(getattr(part, f.name))}" for f in fields(part) if f.init and getattr(part, f.name) != f.default]
    return type(part).__name__ + (f"({', '.join(changed)})" if changed else "")
