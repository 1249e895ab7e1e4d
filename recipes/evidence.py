"""What the recipes have in common: a training that goes on where it stopped, and results that say where they come from."""

from __future__ import annotations

import io
import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers.utils import logging

from retain.benchmark.machine import commit
from retain.demo.machine import machine
from retain.evaluation.result import table
from retain.models import RetainForCausalLM
from retain.storage import write_whole
from retain.training import Run, Trainer

logging.disable_progress_bar()
CONSOLE = Console(highlight=False, soft_wrap=True)
Tables = dict[tuple[Path, str], list[list[str]]]
"""Tables by page and mark."""
_REHEARSAL: ContextVar[Tables | None] = ContextVar("rehearsal", default=None)


def trained(run: Run, folder: Path, name: str) -> tuple[RetainForCausalLM, dict[str, Any]]:
    """The model that a run comes to, from where an earlier call stopped, and what the training was: parameters, updates, seconds, the last figures."""
    if not (folder / "model" / "config.json").exists():
        trainer = Trainer(run, folder)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=CONSOLE, disable=not CONSOLE.is_terminal) as progress:
            bar = progress.add_task(name, total=run.steps)
            trainer.fit(
                lambda place, loss, right: progress.update(
                    bar, completed=place.step, description=f"{name}: lesson {place.lesson + 1}  loss {loss:.3f}  right {right:.3f}"
                )
            )
    model = RetainForCausalLM.from_pretrained(folder / "model").eval()
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    about = {"parameters": sum(weight.numel() for weight in model.parameters()), "updates": last["step"], "seconds": last["seconds"]}
    CONSOLE.print(f"{name}: {about['parameters']:,} parameters, {about['updates']} updates in {about['seconds']:.0f} s, right {last['right']:.3f}")
    return model, about | {"loss": last["loss"], "right": last["right"], "run": json.loads((folder / "run.json").read_text())}


def steady(runs: Mapping[str, Run], folder: Path, name: str) -> tuple[RetainForCausalLM, dict[str, Any]]:
    """What the first of these runs comes to that does not go astray; their names say what is changed from one to the next.

    Raises:
        FloatingPointError: Each of them did.
    """
    for which, run in runs.items():
        try:
            return trained(run, folder / which.replace(" ", "-"), f"{name}, {which}")
        except FloatingPointError as astray:
            CONSOLE.print(f"{name}, {which}: {astray}")
    raise FloatingPointError(f"{name} went astray with each of {', '.join(runs)}.")


def keep(path: Path, results: dict[str, Any], begun: float) -> None:
    """Write results as JSON together with the command, commit, machine and seconds that made them."""
    spec, words = sys.modules["__main__"].__spec__, sys.argv[1:]
    if "--work" in words:  # where a training was set aside, which has no part in what comes of it
        place = words.index("--work")
        del words[place : place + 2]
    command = shlex.join(["python", "-m", spec.name if spec else "", *words])
    about = {"command": command, "commit": commit(), "seconds": round(time.perf_counter() - begun, 1), "machine": machine()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(about | {name: each for name, each in results.items() if name not in about}, indent=1).encode(), mode=0o644)
    CONSOLE.print(f"{path}: {about['seconds']:.0f} s")


def spread(values: list[float], form: str = ".2f") -> str:
    """Mean, and the least and most of the seeds."""
    mean = sum(values) / len(values)
    return f"{mean:{form}} ({min(values):{form}} - {max(values):{form}})"


@contextmanager
def rehearsal() -> Iterator[Tables]:
    """Within it reports write nothing: tables are gathered by page and mark, and no figure is kept."""
    tables: Tables = {}
    token = _REHEARSAL.set(tables)
    try:
        yield tables
    finally:
        _REHEARSAL.reset(token)


def table_put(page: Path, lines: list[list[str]], name: str = "table") -> None:
    """Put a table into a page of Markdown, between the marks ``<!-- name -->`` and ``<!-- end of name -->``."""
    if (gathered := _REHEARSAL.get()) is not None:
        gathered[page, name] = lines
    else:
        text_put(page, table(lines[0], lines[1:]), name)


def text_put(page: Path, text: str, name: str) -> None:
    """Put Markdown between two marks of a page."""
    before, _, after = parted(page, name)
    write_whole(page, f"{before}{text}\n{after}".encode(), mode=0o644)


def parted(page: Path, name: str) -> tuple[str, str, str]:
    """A page up to the end of a mark, what stands between it and its end, and the rest.

    Raises:
        ValueError: The page does not have both marks, once each.
    """
    begin, end, text = f"<!-- {name} -->\n", f"<!-- end of {name} -->", page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise ValueError(f"{page} needs '{begin.strip()}' and behind it '{end}', each in one place.")
    before, rest = text.split(begin)
    inside, after = rest.split(end)
    return before + begin, inside.removesuffix("\n"), end + after


def figure_kept(path: Path, figure: Figure) -> None:
    """Write a figure as PNG, its axes without their boxes."""
    if _REHEARSAL.get() is not None:
        return
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    write_whole(path, out.getvalue(), mode=0o644)
