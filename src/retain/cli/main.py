"""The `retain` command, one file per subcommand.

A subcommand is a typed function that bears the subcommand's name, in a file of that name; its docstring is its help.
It parses, calls and prints. To add one, write `cli/recall.py` with a function `recall`, and list it in `COMMANDS`.
"""

from collections.abc import Callable
from importlib.metadata import version as version_of
from typing import Annotated

import typer

from .bench import bench
from .demo import demo
from .generate import generate
from .presets import presets
from .train import train

COMMANDS: tuple[Callable[..., None], ...] = (bench, demo, generate, presets, train)

app = typer.Typer(
    name="retain",
    help="Neural test-time memory: layers that learn while they read.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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


for command in COMMANDS:
    app.command()(command)
