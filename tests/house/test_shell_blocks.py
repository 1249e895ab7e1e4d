"""Commands on pages are held to their word.

Most of them train or measure for minutes, so they are not run. Each is instead given to the parser that would read it: the command has to exist, to know
every option, and to be given all that it requires, with values of the right type; the same for ``python -m recipes...``, whichever launcher stands before
it, and for the servers in JSON and TOML blocks. Targets of make, extras of pip and files that are named have to be there. What README has of a text memory,
and what only prints, is cheap and is run, one command after the other; the page of text memories has a test of its own that runs it in a shell.
"""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from retain.cli import main as door
from tests.house import shell

COMMANDS = [
    command for page in shell.pages() for command in shell.commands_of(page.relative_to(shell.ROOT).as_posix(), page.read_text(encoding="utf-8"))
]
CHEAP = ("observe", "infer")

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


def test_cheap_commands_run_as_the_readme_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RETAIN_MEMORY", "notes.memory")
    ours = [command.words for command in COMMANDS if command.page == "README.md" and command.words[0] == "retain"]
    chosen = [words for words in ours if words[1] == "presets" or (words[1] == "memory" and words[2] in CHEAP)]
    assert len(chosen) >= 2
    said = {}
    for words in chosen:
        result = CliRunner().invoke(door.app, list(words[1:]))
        assert result.exit_code == 0, f"{words}: {result.output}"
        said[words[1:3]] = result.output
    assert "Anna is allergic to nuts" in said["memory", "infer"]
