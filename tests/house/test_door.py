"""What `import retain` gives and costs: a written list of names, each with an example that runs, and a light start."""

import ast
import doctest
import importlib.metadata
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from inspect import isclass, isfunction
from pathlib import Path
from types import ModuleType

import pytest

import retain

PUBLIC = [
    "Anchor",
    "ContinuumMemory",
    "Gates",
    "Level",
    "MemoryRule",
    "MemoryState",
    "NeuralMemory",
    "Output",
    "Projections",
    "RMS",
    "SelfModifyingMemory",
    "TTTLinear",
    "TTTMLP",
    "bias",
    "learner",
    "load_state",
    "optim",
    "presets",
    "retention",
    "save_state",
    "structure",
]
MOST_NAMES = 30
MOST_SECONDS = 2.0
STAYS_OUT = {"transformers", "triton", "typer", "rich", "matplotlib", "accelerate", "tensorboard", "mcp", "pydantic"}

START = """
import json, sys, time
import torch
before, start = set(sys.modules), time.process_time()
import retain
print(json.dumps({"seconds": time.process_time() - start, "modules": sorted(set(sys.modules) - before)}))
"""


def offered(module: ModuleType) -> list[str]:
    """The names that a module offers: its `__all__`, else its `X as X` imports and its own public definitions."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    names: list[str] = []
    for node in ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            names += [alias.name for alias in node.names if alias.asname == alias.name]
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
    return sorted(name for name in names if not name.startswith("_"))


def documented() -> Iterator[tuple[str, object]]:
    """Everything a user can reach by name: what the door offers, and what the modules it offers do."""
    for name in PUBLIC:
        thing = getattr(retain, name, None)
        yield f"retain.{name}", thing
        if isinstance(thing, ModuleType):
            yield from ((f"retain.{name}.{inner}", getattr(thing, inner)) for inner in offered(thing))


def test_the_door_offers_the_written_list() -> None:
    assert offered(retain) == sorted(PUBLIC)
    assert len(PUBLIC) <= MOST_NAMES


@pytest.mark.parametrize(("name", "thing"), [pytest.param(*pair, id=pair[0]) for pair in documented()])
def test_every_public_name_has_an_example_that_runs(name: str, thing: object) -> None:
    doc = getattr(thing, "__doc__", None) or ""
    assert doc.strip(), f"{name} has no docstring"
    if isclass(thing) or isfunction(thing):
        examples = doctest.DocTestParser().get_examples(doc)
        assert examples, f"{name} has no example; give its docstring an 'Examples:' part with >>> lines"
        skipped = [example.source for example in examples if example.options.get(doctest.SKIP)]
        assert skipped == [], f"{name} has an example that is not run"


def test_import_is_cheap_and_pulls_in_no_extra() -> None:
    runs = [json.loads(subprocess.run([sys.executable, "-c", START], capture_output=True, check=True, text=True).stdout) for _ in range(3)]
    assert {module.split(".")[0] for module in runs[0]["modules"]} & STAYS_OUT == set()
    assert statistics.median(run["seconds"] for run in runs) < MOST_SECONDS


def test_the_version_is_the_installed_one() -> None:
    assert retain.__version__ == importlib.metadata.version("retain")
