"""`retain demo`: a needle in a million tokens, and a package of code read in one pass."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from retain.demo import corpus
from retain.demo.folder import FolderError, RunFolder
from retain.demo.plan import LONGEST, QUICK_LONGEST, Plan
from retain.demo.run import Demo
from retain.demo.training import Pause, Paused


def demo(
    seed: Annotated[int, typer.Option(help="Decides weights, lessons and haystacks.")] = 0,
    length: Annotated[int | None, typer.Option(help=f"Bytes of the longest haystack; {LONGEST:,}, or {QUICK_LONGEST:,} with --quick.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for results, figures and models.")] = Path("retain-demo"),
    quick: Annotated[bool, typer.Option("--quick", help="All of it smaller, in under a minute.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an earlier run left in the folder.")] = False,
) -> None:
    """Train small memory models on the standard library, then find a needle in a million bytes and read a package never seen.

    Ctrl-C stops at a safe point; the same command goes on from there.
    """
    pause = Pause()
    screen = Screen(Console())
    if length is None:
        length = QUICK_LONGEST if quick else LONGEST
    command = f"retain demo --seed {seed} --length {length} --out {shlex.quote(str(out))}{' --quick' if quick else ''}"
    try:
        plan = Plan.of(seed, length, quick)
        folder = RunFolder.open(out, plan.options(), fresh)
        begin = time.perf_counter()
        with _stopping(pause, screen):
            Demo(plan, folder, screen, pause, corpus.library(), command).run()
    except (FolderError, ValueError, FloatingPointError, FileNotFoundError) as error:
        typer.echo(f"retain demo: {error}", err=True)
        raise typer.Exit(2) from None
    except (Paused, KeyboardInterrupt):
        typer.echo(f"Stopped. What was finished is in {out}. To go on from there: {command}", err=True)
        raise typer.Exit(130) from None
    screen.say(f"Done in {time.perf_counter() - begin:.0f} s. Numbers: {out / 'demo.json'}. Figures: {out / 'needle.png'}, {out / 'code.png'}.")


class Screen:
    """Progress as bars on a terminal, and as plain lines anywhere else."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, line: str) -> None:
        """A finished stage, in a sentence."""
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    @contextmanager
    def bar(self, title: str, total: int) -> Generator[Callable[[int], None]]:
        """A stage of ``total`` parts."""
        if not self.console.is_terminal:
            self.say(f"{title} ...")
            yield lambda more: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(title, total=total)
            yield lambda more: progress.advance(task, more)


@contextmanager
def _stopping(pause: Pause, screen: Screen) -> Generator[None]:
    """The first Ctrl-C asks for a stop at the next safe point; the second stops at once."""

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if pause.wanted:
            raise KeyboardInterrupt
        pause.wanted = True
        screen.say("Stopping at the next safe point; Ctrl-C again stops at once.")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
