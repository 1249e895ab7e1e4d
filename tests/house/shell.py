"""The commands that pages show: found in their blocks, and read by the parsers that would read them, without being run."""

import importlib
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from typer.main import get_command

from retain.cli import main as door
from retain.cli.group import word_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TYPED = {"sh"}
ELSEWHERE = {"apt-get", "claude", "codex", "export", "gemini", "printf", "unzip"}
"""Programs that are not ours: what they are told is not checked."""


@dataclass(frozen=True)
class Command:
    """One command of a page.

    Args:
        page: Relative to the repository.
        words: As a shell hands them over.
    """

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def pages() -> list[Path]:
    """Every page that shows commands."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "recipes").glob("*/README.md"))]


def commands_of(page: str, text: str) -> Iterator[Command]:
    """The commands in a page's shell blocks, and the servers that its settings name."""
    for language, block in BLOCK.findall(text):
        if language in TYPED:
            yield from _typed(page, block)
        elif language in {"json", "toml"}:
            for server in _servers(json.loads(block) if language == "json" else tomllib.loads(block)):
                yield Command(page, (Path(server["command"]).name, *server["args"]))


def _typed(page: str, block: str) -> Iterator[Command]:
    block = re.sub(r"\\\n", " ", block)
    block = re.sub(r"(^|\s)#.*$", "", block, flags=re.MULTILINE)
    block = re.sub(r"\$\([^)]*\)", "SAID", block)  # what another command says
    lexer = shlex.shlex(block, posix=True, punctuation_chars="|&\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    words: list[str] = []
    for token in [*lexer, "\n"]:
        if set(token) <= set("|&\n"):
            if words and words[0] != "printf":
                yield Command(page, tuple(words))
            words = []
        elif words or not re.match(r"[A-Z_]+=", token):  # not a variable that is set for the command
            words.append(token)


def _servers(found: object) -> Iterator[dict[str, list[str]]]:
    if isinstance(found, dict):
        if {"command", "args"} <= set(found):
            yield found
        for value in found.values():
            yield from _servers(value)


def refusal(command: Command) -> str | None:
    """None if the command could be typed as it stands, else what its program says to it."""
    program, *rest = command.words
    if Path(program).name == "retain":
        return _retain(rest)
    if "-m" in rest and program in {"python", "torchrun", "accelerate"}:
        at = rest.index("-m")
        missing = [word for word in rest[:at] if word.endswith(".yaml") and not (ROOT / word).is_file()]
        return f"there is no {missing[0]}" if missing else _module(rest[at + 1], rest[at + 2 :])
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        return next((f"there is no target '{word}'" for word in rest if word not in targets and "=" not in word), None)
    if program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
        asked = [extra for word in rest for extras_ in re.findall(r"^retain\[(.+)\]$", word) for extra in extras_.split(",")]
        return next((f"there is no extra '{extra}'" for extra in asked if extra not in extras), None)
    if program == ".venv/bin/pytest":
        return next((f"there is no {word}" for word in rest if "/" in word and not (ROOT / word).exists()), None)
    if program in ELSEWHERE or (program == "python" and rest[0] == "-c"):
        return None
    return f"'{program}' is no program that pages are known to use"


def _retain(words: list[str]) -> str | None:
    app, package, said = door.app, "retain.cli", ["retain"]
    while words and not words[0].startswith("-"):
        name = words[0]
        try:
            module = importlib.import_module(f"{package}.{word_of(name)}")
        except ModuleNotFoundError:
            return f"{' '.join(said)} has no command '{name}'"
        found, words, said = getattr(module, word_of(name)), words[1:], [*said, name]
        if not isinstance(found, typer.Typer):
            return _parsed(found, words)
        app, package = found, module.__name__
    return _read(lambda: get_command(app).make_context(said[-1], words))


def _module(name: str, words: list[str]) -> str | None:
    if name == "retain":
        return _retain(words)
    if not (ROOT / Path(*name.split("."))).with_suffix(".py").is_file():
        return f"there is no module {name}"
    run = importlib.import_module(name).main
    return _parsed(run, words)


def _parsed(function: Callable[..., object], words: list[str]) -> str | None:
    single = typer.Typer(add_completion=False)
    single.command()(function)
    return _read(lambda: get_command(single).make_context(function.__name__, list(words)))


def _read(make: Callable[[], object]) -> str | None:
    try:
        make()
    except typer.Exit:  # --help, --version
        return None
    except Exception as error:  # click's own, of whichever click typer carries
        if hasattr(error, "format_message"):
            return error.format_message()
        raise
    return None
