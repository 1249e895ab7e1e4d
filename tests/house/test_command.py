"""The `retain` command before any subcommand: its version, its help, and what it says when its extra is missing."""

import subprocess
import sys

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
    for command in main.COMMANDS:
        assert command.__module__ == f"retain.cli.{command.__name__}"
        assert command.__doc__
    help_text = CliRunner().invoke(main.app, ["--help"]).output
    assert [command.__name__ for command in main.COMMANDS if command.__name__ not in help_text] == []


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


def test_app_is_what_the_entry_point_calls() -> None:
    assert isinstance(main.app, typer.Typer)
    assert callable(main.app)
