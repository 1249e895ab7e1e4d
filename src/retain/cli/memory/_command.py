"""What all commands of a memory share: bundles of options, and errors in one line."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import typer

from retain.text import DamagedMemory, MemoryBusy, StorageFailed

from ._telling import in_one_line

WRONG, FAILED = 2, 1
"""Exit codes: what was asked cannot be, and nothing was changed; or it could not be done this time."""


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters may be dataclasses of options, and whose errors are a line on standard error.

    Each field of such a dataclass, annotated as a parameter of Typer would be, is an option of the command.
    """
    title = f"retain memory {function.__name__.rstrip('_')}"
    own = inspect.signature(function, eval_str=True).parameters.values()
    bundles: dict[str, Any] = {parameter.name: parameter.annotation for parameter in own if is_dataclass(parameter.annotation)}

    @functools.wraps(function)
    def call(**given: Any) -> None:
        try:
            for name, bundle in bundles.items():
                given[name] = bundle(**{field.name: given.pop(field.name) for field in fields(bundle)})
            function(**given)
        except BrokenPipeError:
            raise  # whoever reads has gone; Typer ends quietly
        except (MemoryBusy, StorageFailed) as error:
            raise _told(title, str(error), FAILED) from None
        except DamagedMemory as error:
            cure = "" if error.snapshot is None else f" On the command line: retain memory restore {error.snapshot} --recover"
            raise _told(title, f"{error}{cure}", FAILED) from None
        except KeyError as error:
            raise _told(title, str(error.args[0]), WRONG) from None
        except OSError as error:
            named = error.strerror and error.filename
            raise _told(title, f"{error.filename}: {error.strerror}." if named else str(error), WRONG) from None
        except (ValueError, ImportError) as error:
            raise _told(title, str(error), WRONG) from None

    parameters = list(_spread(own))
    call.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _spread(own: Iterable[inspect.Parameter]) -> Iterator[inspect.Parameter]:
    for parameter in own:
        if not is_dataclass(parameter.annotation):
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            continue
        hints = get_type_hints(parameter.annotation, include_extras=True)
        for field in fields(parameter.annotation):
            yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])


def _told(title: str, what: str, code: int) -> typer.Exit:
    typer.echo(f"{title}: {in_one_line(what)}", err=True)
    return typer.Exit(code)
