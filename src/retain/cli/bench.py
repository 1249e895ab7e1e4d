"""`retain bench`: speed and memory against the peer."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from retain.benchmark.folder import Folder, read
from retain.benchmark.peer import PeerMissing, peer_package
from retain.benchmark.plan import FEWEST_REPEATS, PARTS, Plan
from retain.benchmark.report import disagreements, markdown
from retain.benchmark.run import run
from retain.benchmark.settings import SETTINGS


def bench(
    out: Annotated[Path, typer.Option(help="Folder for results, figures and their page.")] = Path("benchmarks"),
    settings: Annotated[str, typer.Option(help="Settings to compare, separated by commas.")] = ",".join(SETTINGS),
    only: Annotated[str, typer.Option(help="Parts to measure, separated by commas.")] = ",".join(PARTS),
    repeats: Annotated[int, typer.Option(help="Rounds that count; medians are taken over these.")] = FEWEST_REPEATS,
    quick: Annotated[bool, typer.Option("--quick", help="Short streams, to see that all works; nothing to be quoted.")] = False,
    table: Annotated[Path | None, typer.Option(help="Print the tables of this results.json as Markdown, and measure nothing.")] = None,
) -> None:
    """Measure speed and memory against titans-pytorch 0.5.5, on the same numbers.

    Complete results go to OUT/results.json with a page and figures; anything less goes to OUT/partial. About ten minutes on two quiet cores.
    """
    try:
        if table is not None:
            typer.echo(markdown(read(table)))
            return
        plan = Plan(settings=_names(settings), parts=_names(only), repeats=repeats, quick=quick)
        peer_package()
        folder = Folder(out)
    except (ValueError, PeerMissing) as refusal:
        typer.echo(f"retain bench: {refusal}", err=True)
        raise typer.Exit(2) from None
    command = shlex.join(["retain", *sys.argv[1:]])
    with _progress() as progress:
        bars = {part: progress.add_task(part, start=False, total=1.0, note="") for part in plan.parts}

        def watch(part: str, done: float, note: str) -> None:
            progress.start_task(bars[part])
            progress.update(bars[part], completed=done, note=note)
            progress.refresh()

        results = run(plan, command, watch)
    written = folder.write(results)
    typer.echo(markdown(results) + "\n")
    typer.echo("Written: " + ", ".join(str(path) for path in written))
    wrong = [*disagreements(results), *results["failures"]]
    for sentence in wrong:
        typer.echo(f"retain bench: {sentence}", err=True)
    if wrong:
        raise typer.Exit(1)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _progress() -> Progress:
    """Drawn between measurements only, so that drawing takes no time from them."""
    columns = (TextColumn("{task.description:10}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
    return Progress(*columns, console=Console(stderr=True), auto_refresh=False)
