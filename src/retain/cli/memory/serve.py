"""`retain memory serve`: a memory for agents, by the Model Context Protocol."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from retain.text import TextMemory
from retain.text.server import Door, serve_http, server_of

from ._command import command
from ._opening import Making, Place, Reading, learning


@command
def serve(
    http: Annotated[bool, typer.Option("--http", help="Over HTTP instead of standard input and output.")] = False,
    host: Annotated[str, typer.Option(help="With --http: where to listen. Other machines can reach it only with a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="With --http: the port; 0 for any that is free.")] = 8765,
    token: Annotated[
        str | None,
        typer.Option(envvar="RETAIN_MEMORY_TOKEN", help="With --http: what requests must carry; in the environment nobody else sees it."),
    ] = None,
    *,
    place: Place,
    reading: Reading,
    making: Making,
) -> None:
    """Serve the memory to agents by the Model Context Protocol, with the tools observe, infer, surprise, stats, forget, snapshot and restore.

    Speaks over standard input and output, or over streamable HTTP at /mcp. The memory is made if there is none, and may be open elsewhere meanwhile.
    """
    door = Door(host=host, port=port, token=token) if http else None
    with learning(place, reading, making) as memory:
        server = server_of(memory)
        if door is not None:
            with _heard(_unwound, signal.SIGTERM):
                try:
                    serve_http(server, door, lambda address: typer.echo(f"Serving {memory.path} at {address}", err=True))
                except KeyboardInterrupt:
                    raise typer.Exit(130) from None
            return
        if sys.stdin.isatty():
            typer.echo("Waiting for an agent on standard input; docs/text-memory.md says how to make one start this. Ctrl-C ends.", err=True)
        with _heard(_ending(memory), signal.SIGINT, signal.SIGTERM):
            server.run("stdio")


@contextmanager
def _heard(handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Generator[None, None, None]:
    """These signals go to the handler meanwhile."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, one in before.items():
            signal.signal(number, one)


def _unwound(number: int, frame: FrameType | None) -> None:
    """A signal closes the memory on its way out."""
    raise SystemExit(128 + number)


def _ending(memory: TextMemory) -> Callable[[int, FrameType | None], None]:
    """A signal closes the memory, and ends the process at once: its thread that waits for standard input cannot be unwound."""

    def end(number: int, frame: FrameType | None) -> None:
        memory.close()
        os._exit(128 + number)

    return end
