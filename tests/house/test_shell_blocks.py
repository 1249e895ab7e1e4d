"""Commands on pages are held to their word.

Most of them train or measure for minutes, so they are not run. Each is instead given to the parser that would read it: the command has to exist, to know
every option, and to be given all that it requires, with values of the right type; the same for ``python -m recipes...``, whichever launcher stands before
it, and for the servers in JSON and TOML blocks. Targets of make, extras of pip and files that are named have to be there. What reads and writes a text
memory, and what only prints, is cheap and is run, one command after the other as the page has them.
"""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from retain.cli import main as door
from tests.house import shell
from tests.house.shell import Command

COMMANDS = [
    command for page in shell.pages() for command in shell.commands_of(page.relative_to(shell.ROOT).as_posix(), page.read_text(encoding="utf-8"))
]
CHEAP = ("observe", "infer", "surprise", "snapshot", "history", "forget", "stats", "hash", "export")

WRONG = {
    "```sh\nretain remember\n```\n": "no command 'remember'",
    "```sh\nretain train mqar --over runs\n```\n": "--over",
    "```sh\nretain train\n```\n": "Missing",
    "```sh\nretain bench --repeats many\n```\n": "valid integer",
    "```sh\naccelerate launch --config_file nowhere.yaml -m retain train mqar --out runs\n```\n": "nowhere.yaml",
    "```sh\npython -m recipes.nowhere.run\n```\n": "no module recipes.nowhere.run",
    "```sh\npython -m recipes.chunks.run --sed 0\n```\n": "--sed",
    "```sh\nmake tea\n```\n": "tea",
    "```sh\npip install 'retain[cli,tea]'\n```\n": "tea",
    "```sh\nrm -rf runs\n```\n": "rm",
    '```json\n{"mcpServers": {"memory": {"command": "/bin/retain", "args": ["memory", "serve", "--memo", "x"]}}}\n```\n': "--memo",
    '```toml\n[mcp_servers.memory]\ncommand = "/bin/retain"\nargs = ["memory", "server"]\n```\n': "no command 'server'",
}


def test_pages_show_commands() -> None:
    assert {command.page for command in COMMANDS} >= {
        "README.md",
        "docs/index.md",
        "docs/retrofit.md",
        "docs/text-memory.md",
        "recipes/memories/README.md",
    }
    assert sum(command.words[0] == "retain" for command in COMMANDS) > 30


@pytest.mark.parametrize("page", sorted({command.page for command in COMMANDS}))
def test_the_commands_on_the_page_could_be_typed(page: str) -> None:
    refused = [f"{command}: {said}" for command in COMMANDS if command.page == page and (said := shell.refusal(command))]
    assert not refused, "\n".join(refused)


@pytest.mark.parametrize("block", WRONG)
def test_a_command_that_could_not_be_typed_is_seen(block: str) -> None:
    (command,) = shell.commands_of("planted.md", block)
    assert WRONG[block] in str(shell.refusal(command))


def cheap(page: str) -> list[Command]:
    """Those of a page that are run."""
    ours = [command for command in COMMANDS if command.page == page and command.words[0] == "retain"]
    return [command for command in ours if command.words[1] == "presets" or (command.words[1] == "memory" and command.words[2] in CHEAP)]


@pytest.mark.parametrize("page", ["README.md", "docs/text-memory.md"])
def test_cheap_commands_run_as_the_page_has_them(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RETAIN_MEMORY", "notes.memory")
    chosen = cheap(page)
    assert len(chosen) >= 2
    said = {}
    for command in chosen:
        result = CliRunner().invoke(door.app, list(command.words[1:]), input=command.fed)
        assert result.exit_code == 0, f"{command}: {result.output}"
        said[command.words[1:3]] = result.output
    assert "Anna is allergic to nuts" in said["memory", "infer"]
