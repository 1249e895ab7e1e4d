"""docs/text-memory.md is held to its word: its shell blocks run, its tables are whole, and what it tells agents to start can be started."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from retain.cli import memory
from retain.cli.main import app
from retain.cli.memory.serve import serve
from retain.text import HashingEmbedder, MemoryConfig, TextMemory
from tests.unit.cli.shells import RETAIN, environment

PAGE = (Path(__file__).parents[3] / "docs" / "text-memory.md").read_text(encoding="utf-8")


SHELL, AGENTS = PAGE.split("\n## For agents")


def blocks(language: str, page: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def test_the_shell_blocks_run(tmp_path: Path) -> None:
    """In a folder where the memory is made already, of an embedder that is loaded at once; nothing is installed."""
    TextMemory.open(tmp_path / "notes.memory", MemoryConfig(dim=16), embedder=HashingEmbedder()).close()
    script = "\n".join(["set -e", "pip() { :; }", f'retain() {{ {" ".join(RETAIN)} "$@"; }}', *blocks("sh", SHELL)])
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Anna is allergic to nuts" in done.stdout
    assert done.stdout.endswith("Record 2 is forgotten, and with it the snapshots that held it: monday.\n")


def test_every_command_is_on_the_page() -> None:
    for name in memory.COMMANDS:
        assert f"`{name}`" in PAGE


def servers() -> list[dict[str, Any]]:
    found = [json.loads(block) for block in blocks("json", AGENTS)]
    return [server for one in found for server in next(iter(one.values())).values()]


@pytest.mark.parametrize("server", servers(), ids=str)
def test_what_agents_are_told_can_be_started(server: dict[str, Any]) -> None:
    if "url" in server:
        assert server == {"type": "http", "url": "http://127.0.0.1:8765/mcp", "headers": {"Authorization": "Bearer ${RETAIN_MEMORY_TOKEN}"}}
        told = CliRunner().invoke(app, ["memory", "serve", "--help"]).output
        assert "127.0.0.1" in told
        assert "8765" in told
        return
    assert Path(server["command"]).name == "retain"
    assert server["args"][:2] == ["memory", "serve"]
    single = typer.Typer()
    single.command()(serve)
    with typer.main.get_command(single).make_context("serve", server["args"][2:]) as parsed:
        assert str(parsed.params["memory"]).endswith("notes.memory")
