"""The `retain` command before any subcommand: its version, its help, and what it says when its extra is missing."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import retain
from retain.cli import main, memory, retrofit
from retain.cli.group import word_of

WITHOUT = "import sys; sys.modules[{missing!r}] = None; import retain.cli.main"


def test_version() -> None:
    result = CliRunner().invoke(main.app, ["--version"])
    assert (result.exit_code, result.output.strip()) == (0, f"retain {retain.__version__}")


GROUPS = {"": main.COMMANDS, "memory": memory.COMMANDS, "retrofit": retrofit.COMMANDS}


def test_every_group_is_listed() -> None:
    folder = Path(main.__file__).parent
    assert {path.parent.name for path in folder.glob("*/__init__.py")} == set(GROUPS) - {""}


@pytest.mark.parametrize("group", GROUPS)
def test_every_command_bears_the_name_of_its_file_and_tells_what_it_does(group: str) -> None:
    commands = GROUPS[group]
    folder = Path(main.__file__).parent / group
    files = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert {word_of(name) for name in commands} == {file for file in files if not file.startswith("_")} - {"group", "main"}
    words = [group] if group else []
    help_text = CliRunner().invoke(main.app, [*words, "--help"]).output
    for name in commands:
        file = word_of(name)
        found = getattr(importlib.import_module(".".join(["retain.cli", *words, file])), file)
        about = found.info.help if isinstance(found, typer.Typer) else found.__doc__
        assert isinstance(about, str)
        assert name in help_text
        own = CliRunner().invoke(main.app, [*words, name, "--help"])
        assert own.exit_code == 0
        assert about.split()[0] in own.output
        assert " ".join(["retain", *words, name]) in own.output


def test_a_group_alone_prints_what_it_holds() -> None:
    alone = CliRunner().invoke(main.app, ["retrofit"])
    for name, about in retrofit.COMMANDS.items():
        assert name in alone.output
        assert about.split()[0] in alone.output


def test_unknown_command_is_refused_by_name() -> None:
    for words in (["remember"], ["retrofit", "remember"]):
        result = CliRunner().invoke(main.app, words)
        assert result.exit_code == 2
        assert "No such command 'remember'" in result.output


@pytest.mark.parametrize("missing", ["typer", "rich", "matplotlib"])
def test_a_missing_extra_is_one_line_with_the_cure(missing: str) -> None:
    code = WITHOUT.format(missing=missing)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert missing in line
    assert "pip install 'retain[cli]'" in line


def test_a_command_whose_packages_are_missing_says_so_and_the_others_stay() -> None:
    code = "import sys; sys.modules['transformers'] = None; from retain.cli.main import app; app()"
    for words, code_expected, told in (
        (["train", "mqar", "--out", "x"], 2, "retain train needs transformers"),
        (["retrofit", "fetch-smollm2"], 2, "retain retrofit fetch-smollm2 needs transformers"),
        (["demo", "--help"], 0, ""),
    ):
        result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert result.returncode == code_expected, result.stderr
        assert told in result.stderr


def test_app_is_what_the_entry_point_calls() -> None:
    assert isinstance(main.app, typer.Typer)
    assert callable(main.app)
