"""`retain train`: a run, by name or from a file, in a folder where it can be stopped, killed and gone on with."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers.utils import logging

from retain.training import CheckpointError, Stop, Trainer
from retain.training.loop import AbstractTraining
from retain.training.recipes import changed
from retain.training.recipes import recipe as run_of


def train(
    recipe: Annotated[str, typer.Argument(help="mqar, needle, code or hope; or a Python file with `def run() -> Run`.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; an interrupted one goes on.")],
    change: Annotated[
        list[str] | None, typer.Option("--set", help="A setting to change, such as model.block=mac or reading.rows=8; may be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and samples.")] = None,
) -> None:
    """Train a model. Ctrl-C stops at a safe point; the same command goes on from there.

    Under torchrun the processes share the work: torchrun --nproc-per-node 2 -m retain train ...
    """
    logging.disable_progress_bar()
    settings = [*(change or []), *([] if seed is None else [f"seed={seed}"])]
    try:
        run = changed(run_of(recipe), settings)
        trainer = Trainer(run, out)
        size = sum(weight.numel() for weight in trainer.model.parameters())
        fit(trainer, f"{size:,} parameters", ["retain", "train", recipe, "--out", str(out), *(part for one in settings for part in ("--set", one))])
    except (ValueError, CheckpointError, FloatingPointError, ImportError) as error:
        typer.echo(f"retain train: {error}", err=True)
        raise typer.Exit(2) from None


def fit(trainer: AbstractTraining[Any, Any], what: str, command: Sequence[str]) -> None:
    """Train to the end, or until Ctrl-C, and say on the terminal how far it is.

    Args:
        trainer: What trains.
        what: What it trains, in a few words.
        command: What goes on from where it stops.

    Raises:
        Exit: It was stopped.
    """
    console, out = Console(quiet=not trainer.workers.first), trainer.folder
    steps, lessons = trainer.run.steps, len(trainer.run.lessons)
    console.print(f"{what}, at most {steps:,} updates, in {out}", highlight=False)
    wish = Wish()
    try:
        with counting(console, steps) as tick, listening(wish):
            trainer.fit(
                lambda place, loss, right: tick(place.step, f"lesson {min(place.lesson + 1, lessons)}  loss {loss:.4f}  right {right:.3f}"),
                lambda: wish.stop,
            )
    except Stop:
        typer.echo(f"Stopped. To go on from there: {shlex.join(command)}", err=True)
        raise typer.Exit(130) from None
    console.print(
        f"Done. Model: {out / 'model'}. Metrics: {out / 'metrics.jsonl'}. The run in full: {out / 'run.json'}.", highlight=False, soft_wrap=True
    )


class Wish:
    """Whether somebody wants a stop."""

    stop = False


@contextmanager
def listening(wish: Wish) -> Generator[None]:
    """Ctrl-C asks for a stop at the next safe point; a second one stops at once."""

    def heard(number: int, frame: FrameType | None) -> None:
        if wish.stop:
            raise KeyboardInterrupt
        wish.stop = True

    before = signal.signal(signal.SIGINT, heard)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def counting(console: Console, total: int) -> Generator[Callable[[int, str], None]]:
    """What moves a bar of so many steps; elsewhere than on a terminal, ten lines."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    if not console.is_terminal:
        yield lambda step, words: console.print(f"step {step}  {words}", highlight=False) if step % max(1, total // 10) == 0 else None
        return
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=total)
        yield lambda step, words: progress.update(task, completed=step, description=words)
