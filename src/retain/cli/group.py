"""A group of subcommands: a package with one file per subcommand, each imported when it is called."""

import importlib
import keyword
from typing import Annotated

import typer


def group(title: str, about: str, package: str, commands: dict[str, str]) -> typer.Typer:
    """A command that holds others.

    ``fetch-smollm2`` in ``commands`` is the function ``fetch_smollm2`` of the file ``fetch_smollm2.py`` in ``package``, or a group of that name:
    a package with ``COMMANDS`` of its own and a Typer made by this function. Files whose names begin with an underscore are no subcommands.

    Args:
        title: What is typed to reach it, such as ``retain retrofit``.
        about: Its help.
        package: The package that holds the subcommands.
        commands: What each subcommand does, in a line, by name.
    """
    app = typer.Typer(name=title.split()[-1], help=about, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_nothing)  # with a callback, a group of one is still a group
    for name, line in commands.items():
        _add(app, f"{title} {name}", package, name, line)
    return app


def word_of(name: str) -> str:
    """The name of a subcommand's file and function: ``fetch_smollm2`` for ``fetch-smollm2``, and ``import_`` for ``import``, which Python keeps for itself."""
    word = name.replace("-", "_")
    return f"{word}_" if keyword.iskeyword(word) else word


def _nothing() -> None:
    pass


def _add(app: typer.Typer, title: str, package: str, name: str, about: str) -> None:
    untouched = {"ignore_unknown_options": True, "allow_interspersed_args": False}

    @app.command(name, help=about, add_help_option=False, context_settings=untouched)
    def call(words: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:
        word = word_of(name)
        try:
            found = getattr(importlib.import_module(f"{package}.{word}"), word)
        except ModuleNotFoundError as error:
            typer.echo(f"{title} needs {error.name}, which is not installed. Cure: pip install 'retain[all]'", err=True)
            raise typer.Exit(2) from None
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            single.command()(found)
            found = single
        typer.main.get_command(found).main(args=words or [], prog_name=title)
