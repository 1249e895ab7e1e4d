"""`retain retrofit eval`: what a model with memories knows of pages that it has read, beside four controls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from retain.evaluation import AbstractResult, AfterCut, after_cut, draw_after_cut, draw_page_recall, page_recall, preservation
from retain.retrofit import load, opening
from retain.tasks import EXAMS, Continued, Hosted, exam

from ..eval import bar, keep

TOKENS = 128
"""Of each ordinary text."""


def eval(
    folder: Annotated[Path, typer.Argument(help="Folder of trained memories, such as RUN/model.")],
    base: Annotated[str, typer.Option(help="The pretrained model that they belong to: a folder, or a name on the hub.")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.json and NAME.png.")],
    pages: Annotated[str, typer.Option(help=f"What is read and asked, such as pairs-31,text; of {', '.join(EXAMS)}.")] = "pairs-31",
    count: Annotated[int, typer.Option(help="Pages of each kind.")] = 32,
    batch: Annotated[int, typer.Option(help="Pages that are read side by side, two at least.")] = 8,
    by: Annotated[str | None, typer.Option(help="A fact to group by, such as format or hops; distance if left out.")] = None,
    context: Annotated[int | None, typer.Option(help="The most tokens that the base reads in one context; all that it can if left out.")] = None,
    preserved: Annotated[bool, typer.Option("--preservation", help="Measure as well what memories full of those pages leave of English.")] = False,
) -> None:
    """Let a model read pages, cut its attention cache, and ask it about them, in words, formats and works that are held out.

    Four controls stand in the same table: the base with the page in its context and without it, no writing, and the memory of another page. For text and
    text-code it tells how well they are foretold behind the cut.
    """
    logging.disable_progress_bar()
    console = Console()
    try:
        if not folder.is_dir():
            raise ValueError(f"{folder} is not the folder of trained memories. A run keeps them in RUN/model.")
        tokenizer = AutoTokenizer.from_pretrained(base)
        codec, start = Hosted(tokenizer), opening(tokenizer)
        asked = {name: exam(name, codec) for name in pages.split(",")}
        device: Any = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModelForCausalLM.from_pretrained(base).to(device)
        load(model, folder)
        out.mkdir(parents=True, exist_ok=True)
        for name, one in asked.items():
            how: dict[str, Any] = {"start": start, "batch": batch, "full_context": context, "title": name}
            with bar(console, name) as watch:
                how["progress"] = watch
                result = (
                    after_cut(model, one, range(count), **how)
                    if isinstance(one, Continued)
                    else page_recall(model, one, range(count), codec=codec, by=by, **how)
                )
            _tell(console, result, out / f"{name}.json")
            if isinstance(result, AfterCut):
                draw_after_cut(result, out / f"{name}.png")
            else:
                draw_page_recall(result, out / f"{name}.png")
            if preserved:
                texts = torch.stack([page.text[:TOKENS] for page in exam("text", codec).batch(range(count, 2 * count))])
                title = f"English with a memory full of {name}"
                with bar(console, title) as watch:
                    left = preservation(model, texts, one, range(count), start=start, batch=batch, progress=watch, title=title)
                _tell(console, left, out / f"{name}.preservation.json")
    except (ValueError, OSError) as error:
        typer.echo(f"retain retrofit eval: {error}", err=True)
        raise typer.Exit(2) from None
    console.print(f"Numbers and figures are in {out}.", highlight=False, soft_wrap=True)


def _tell(console: Console, result: AbstractResult, path: Path) -> None:
    keep(result, path)
    console.print(result.markdown() + "\n", highlight=False, soft_wrap=True, markup=False)
