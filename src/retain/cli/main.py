"""The `retain` command, one file per subcommand.

A subcommand is a typed function that bears the subcommand's name, in a file of that name; its docstring is its help.
It parses, calls and prints. To add one, write `cli/recall.py` with a function `recall`, and list it in `COMMANDS`.
A file is imported when its subcommand is called, so that no command waits for what another one needs.
"""

import importlib
from importlib.metadata import version as version_of
from typing import Annotated

import typer

COMMANDS = {
    "bench": "Measure speed and memory against titans-pytorch 0.5.5.",
    "demo": "Train small memory models, find a needle in a million bytes, and read a package never seen.",
    "eval": "Ask a model what it was trained for, beside its controls.",
    "generate": "Let a trained model go on from a prompt.",
    "presets": "Print the memories that have a name.",
    "train": "Train a model by a recipe.",
}

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


def _add(name: str, about: str) -> None:
    untouched = {"ignore_unknown_options": True, "allow_interspersed_args": False}

    @app.command(name, help=about, add_help_option=False, context_settings=untouched)
    def call(words: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:
        try:
            function = getattr(importlib.import_module(f"{__package__}.{name}"), name)
        except ModuleNotFoundError as error:
            typer.echo(f"retain {name} needs {error.name}, which is not installed. Cure: pip install 'retain[all]'", err=True)
            raise typer.Exit(2) from None
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command()(function)
        typer.main.get_command(single).main(args=words or [], prog_name=f"retain {name}")


for name, about in COMMANDS.items():
    _add(name, about)
