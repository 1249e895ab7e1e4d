"""`retain eval`: how often a model is right, with all it has and without what the controls take away; and what it costs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers.utils import logging

from retain.evaluation import AbstractResult, cost, draw_recall, recall
from retain.models import RetainForCausalLM
from retain.storage import write_whole
from retain.tasks import AbstractTask
from retain.training.recipes import changed
from retain.training.recipes import recipe as run_of


def eval(
    model: Annotated[Path, typer.Argument(help="Folder of a model, such as RUN/model or one of its checkpoints.")],
    recipe: Annotated[str, typer.Argument(help="The recipe whose last lesson's last task is asked, as in `retain train`.")],
    out: Annotated[Path, typer.Option(help="Folder for recall.json, recall.png and cost.json.")],
    lengths: Annotated[str | None, typer.Option(help="Lengths of the samples, such as 1k,16k,1M; the task's own if left out.")] = None,
    samples: Annotated[int, typer.Option(help="Samples of each length.")] = 32,
    batch: Annotated[int, typer.Option(help="Samples that are read side by side.")] = 8,
    change: Annotated[list[str] | None, typer.Option("--set", help="A setting of the recipe to change; may be repeated.")] = None,
    costs: Annotated[bool, typer.Option("--cost", help="Measure speed and the size of the state as well.")] = False,
) -> None:
    """Ask a model what it was trained for, on samples that it has not seen, beside its controls.

    The controls stand in the same table: no writing, the memory put back just before the question, attention's window emptied just before it.
    """
    logging.disable_progress_bar()
    console = Console()
    try:
        if not (model / "config.json").exists():
            raise ValueError(f"{model} is not the folder of a model: it has no config.json. A run keeps its model in RUN/model.")
        speaker = RetainForCausalLM.from_pretrained(model).eval()
        task = changed(run_of(recipe), change or []).lessons[-1].tasks[-1]
        asked = [task] if lengths is None else [_of_length(task, length) for length in lengths.split(",")]
        out.mkdir(parents=True, exist_ok=True)
        found = None
        for i, one in enumerate(asked):
            seeds = range(i * samples, (i + 1) * samples)
            title = f"{type(one).__name__}{f', length {one.length:,}' if hasattr(one, 'length') else ''}"  # pyright: ignore[reportAttributeAccessIssue]
            with bar(console, title) as progress:
                result = recall(speaker, one, seeds, batch=batch, progress=progress, title=title)
            if lengths is not None:
                known = [replace(outcome, facts={**outcome.facts, "length": one.length}) for outcome in result.outcomes]  # pyright: ignore
                result = replace(result, by="length", outcomes=tuple(known))
            console.print(result.markdown(), highlight=False, soft_wrap=True, markup=False)
            found = result if found is None else replace(found, title=type(one).__name__, outcomes=(*found.outcomes, *result.outcomes))
        assert found is not None
        keep(found, out / "recall.json")
        draw_recall(found, out / "recall.png")
        if costs:
            with bar(console, "Cost") as progress:
                spent = cost(speaker, progress=progress)
            console.print(spent.markdown(), highlight=False, soft_wrap=True, markup=False)
            keep(spent, out / "cost.json")
    except (ValueError, OSError) as error:
        typer.echo(f"retain eval: {error}", err=True)
        raise typer.Exit(2) from None
    console.print(f"Numbers: {out / 'recall.json'}. Figure: {out / 'recall.png'}.", highlight=False, soft_wrap=True)


def _of_length(task: AbstractTask, words: str) -> AbstractTask:
    """The task with samples of another length, such as 4096, 4k or 1M."""
    units = {"k": 1 << 10, "m": 1 << 20}
    number, unit = (words[:-1], units[words[-1].lower()]) if words[-1:].lower() in units else (words, 1)
    if not number.isdigit():
        raise ValueError(f"a length is a number such as 4096, 4k or 1M, got {words!r}.")
    if "length" not in [field.name for field in fields(task)]:  # pyright: ignore[reportArgumentType]
        raise ValueError(f"{type(task).__name__} has no length of its own; leave out --lengths.")
    return replace(task, length=int(number) * unit)  # pyright: ignore[reportType, reportArgumentType, reportCallIssue]


def keep(result: AbstractResult, path: Path) -> None:
    """Write a result as JSON."""
    write_whole(path, result.to_json().encode(), mode=0o644)


@contextlib.contextmanager
def bar(console: Console, title: str) -> Generator[Callable[[float, str], None]]:
    """A bar on a terminal, gone when all is done, and what moves it; nothing elsewhere."""
    if not console.is_terminal:
        yield lambda share, words: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=1.0, words="")
        yield lambda share, words: progress.update(task, completed=share, words=words)
