"""`retain retrofit train`: the memories of a pretrained model, by a recipe, in a folder where it can be stopped, killed and gone on with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from transformers.utils import logging

from retain.retrofit import memory_parameters
from retain.training import CheckpointError
from retain.training.recipes import changed
from retain.training.retrofit import RetrofitTrainer, config_of, plan_for, tokenizer_of
from retain.training.retrofit.recipes import RECIPES
from retain.training.retrofit.recipes import recipe as run_of
from retain.training.retrofit.sizes import A100, H100, TWO_CORES

from ..train import fit

GPUS = {"H100": H100, "A100": A100, "CPU": TWO_CORES}


def train(
    recipe: Annotated[str, typer.Argument(help=f"{', '.join(RECIPES)}; or a Python file with `def run(base) -> RetrofitRun`.")],
    base: Annotated[str, typer.Option(help="The pretrained model: a folder, or a name on the hub.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run, needed but for --plan; an interrupted one goes on.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="A setting to change, such as model.memory.layers=[-7] or reading.rows=8; may be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and pages.")] = None,
    device: Annotated[Literal["cuda", "cpu"] | None, typer.Option(help="On what; a GPU where there is one if left out.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what it will take, on --gpu and --processes, and do nothing.")] = False,
    gpu: Annotated[Literal["H100", "A100", "CPU"], typer.Option(help="For --plan: what each process has.")] = "H100",
    processes: Annotated[int, typer.Option(help="For --plan: how many there are.")] = 1,
) -> None:
    """Train memories beside a pretrained model, which stays as it is. Ctrl-C stops at a safe point; the same command goes on from there.

    Under torchrun or accelerate launch the processes share the work: torchrun --nproc-per-node 8 -m retain retrofit train ...
    """
    logging.disable_progress_bar()
    settings = [*(change or []), *([] if seed is None else [f"seed={seed}"])]
    try:
        if plan:
            _foretell(recipe, base, settings, gpu, processes)
            return
        if out is None:
            raise ValueError("a run needs a folder. Cure: --out DIR; or --plan, which trains nothing.")
        trainer = RetrofitTrainer(changed(run_of(recipe, base), settings), out, device)
        trained = sum(weight.numel() for weight in memory_parameters(trainer.model))
        whole = sum(weight.numel() for weight in trainer.model.parameters())
        where = [*(["--device", device] if device else []), *(part for one in settings for part in ("--set", one))]
        command = ["retain", "retrofit", "train", recipe, "--base", base, "--out", str(out), *where]
        fit(trainer, f"{trained:,} parameters of memories beside {whole - trained:,} that stay", command)
    except (ValueError, CheckpointError, FloatingPointError, ImportError, OSError) as error:
        typer.echo(f"retain retrofit train: {error}", err=True)
        raise typer.Exit(2) from None


def _foretell(recipe: str, base: str, settings: list[str], gpu: str, processes: int) -> None:
    """Say what a run will take."""
    console = Console()
    config_of(base)
    with tokenizer_of(base) as (name, own):
        run = changed(run_of(recipe, name), settings)
        found = plan_for(run, base, device=GPUS[gpu], processes=processes)
    console.print(found.markdown() + "\n", highlight=False, soft_wrap=True, markup=False)
    notes = []
    if not own:
        notes.append(f"The tokenizer of {base} is not here, so lengths are those that byte pairs of English give, which are not far from it.")
    if len(run.lessons) > 1:
        notes.append("Each update is taken to be one of the lesson that reads most.")
    if run.reading.pool is not None:
        notes.append(
            f"{run.reading.pool} pages of a lesson come again: what the layers below the first memory make of them is kept, beside the above, and their "
            "forward pass is done once for each, which is not taken off."
        )
    again = shlex.join(part for one in settings for part in ("--set", one))
    notes.append(f"To begin: retain retrofit train {recipe} --base {base} --out DIR {again}".rstrip())
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True, markup=False)
