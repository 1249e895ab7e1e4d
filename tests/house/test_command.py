"""The `retain` command before any subcommand: its version, its help, and what it says when its extra is missing."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import retain
from retain.cli import main

WITHOUT = "import sys; sys.modules[{missing!r}] = None; import retain.cli.main"


def test_version() -> None:
    result = CliRunner().invoke(main.app, ["--version"])
    assert (result.exit_code, result.output.strip()) == (0, f"retain {retain.__version__}")


def test_every_command_bears_the_name_of_its_file_and_tells_what_it_does() -> None:
    files = {path.stem for path in Path(main.__file__).parent.glob("*.py")} - {"__init__", "main"}
    assert set(main.COMMANDS) == files
    help_text = CliRunner().invoke(main.app, ["--help"]).output
    for name in main.COMMANDS:
        function = getattr(importlib.import_module(f"retain.cli.{name}"), name)
        assert function.__doc__
        assert name in help_text
        own = CliRunner().invoke(main.app, [name, "--help"])
        assert own.exit_code == 0
        assert function.__doc__.split()[0] in own.output


def test_unknown_command_is_refused_by_name() -> None:
    result = CliRunner().invoke(main.app, ["remember"])
    assert result.exit_code == 2
    assert "remember" in result.output


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
    for words, code_expected, told in ((["train", "mqar", "--out", "x"], 2, "retain train needs transformers"), (["demo", "--help"], 0, "")):
        result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert result.returncode == code_expected, result.stderr
        assert told in result.stderr


def test_app_is_what_the_entry_point_calls() -> None:
    assert isinstance(main.app, typer.Typer)
    assert callable(main.app)
