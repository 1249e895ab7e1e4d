"""The `retain` command, one file per subcommand.

A subcommand is a typed function that bears the subcommand's name, in a file of that name; its docstring is its help.
It parses, calls and prints. To add one, write `cli/recall.py` with a function `recall`, and list it in `COMMANDS`.
A subcommand that holds others is a package in the same manner: see `cli/retrofit`.
A file is imported when its subcommand is called, so that no command waits for what another one needs.
"""

from importlib.metadata import version as version_of
from typing import Annotated

import typer

from .group import group

COMMANDS = {
    "bench": "Measure speed and memory against titans-pytorch 0.5.5.",
    "demo": "Train small memory models, find a needle in a million bytes, and read a package never seen.",
    "eval": "Ask a model what it was trained for, beside its controls.",
    "generate": "Let a trained model go on from a prompt.",
    "inspect": "Look into a memory: what surprises it, what it writes, what its reads draw on, what changed.",
    "memory": "Give an agent a memory of texts: observe, infer, and a server.",
    "presets": "Print the memories that have a name.",
    "retrofit": "Give a language model that is trained already a memory.",
    "train": "Train a model by a recipe.",
}

app = group("retain", "Neural test-time memory: layers that learn while they read.", "retain.cli", COMMANDS)


def _print_version(wanted: bool) -> bool:
    """What this returns is the option's value."""
    if wanted:
        typer.echo(f"retain {version_of('retain')}")
        raise typer.Exit
    return wanted


@app.callback()
def retain(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")] = False,
) -> None:
    """Neural test-time memory: layers that learn while they read."""
