"""A measurement in a process of its own, which tells how far it is: what another measurement left in the heap neither helps nor hinders it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from .job import THREADS, JobFailed
from .timing import Watch


def apart(measure: Callable[..., Any], *arguments: Any, watch: Watch) -> Any:
    """What ``measure(*arguments, watch)`` returns, in a fresh process.

    Args:
        measure: A function of a module.
        arguments: What it is given before its watch.
        watch: Is told what the watch of the measurement is told.

    Raises:
        JobFailed: It broke down; the message says how.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_measure, args=(there, measure, arguments))
    process.start()
    there.close()
    try:
        while True:
            kind, *what = here.recv()
            if kind == "found":
                return what[0]
            if kind == "failed":
                raise JobFailed(f"{measure.__name__}: {what[0]}")
            watch(*what)
    except EOFError:
        raise JobFailed(f"{measure.__name__}: its process ended without a word.") from None
    finally:
        here.close()
        process.join()


def _measure(there: Connection, measure: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(THREADS)
    try:
        found = measure(*arguments, lambda done, note: there.send(("watch", done, note)))
    except Exception as broken:  # whatever it is, it is told to who asked
        there.send(("failed", f"{type(broken).__name__}: {broken}"))
    else:
        there.send(("found", found))
    there.close()
