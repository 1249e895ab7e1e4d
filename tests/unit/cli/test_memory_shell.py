"""`retain memory` in processes of its own: pipes that break, lines that come one by one, Ctrl-C, and terminals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

from tests.unit.cli.shells import started
from tests.unit.text.memories import taught

SMALL = ["--embedder", "hashing", "--dim", "16"]


def test_a_pipe_in_and_a_pipe_out(tmp_path: Path) -> None:
    env = {"RETAIN_MEMORY": str(tmp_path / "notes")}
    with started("memory", "observe", *SMALL, env=env) as writer:
        out, err = writer.communicate("figs\nplums – größer\n")
    assert (writer.returncode, err) == (0, "")
    assert out.startswith("2 texts, the last of them record 2.")
    with started("memory", "history", "--json", env={**env, "PYTHONIOENCODING": "ascii"}) as reader:
        out, err = reader.communicate()
    assert (reader.returncode, err) == (0, "")
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["figs", "plums – größer"]
    with started("memory", "stats", "--memory", str(tmp_path / "none")) as lost:
        out, err = lost.communicate()
    assert (lost.returncode, out) == (2, "")
    assert err.startswith("retain memory stats: there is no memory in")
    assert len(err.splitlines()) == 1


def test_a_reader_who_has_gone_is_no_error(tmp_path: Path) -> None:
    taught(tmp_path / "notes", [f"{number} {'x' * 5000}" for number in range(60)]).close()
    with started("memory", "history", "--memory", str(tmp_path / "notes")) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "  0 xxx" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_lines_are_learnt_as_they_come_until_ctrl_c(tmp_path: Path) -> None:
    with started("memory", "observe", "--json", "--memory", str(tmp_path / "notes"), *SMALL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for number, text in enumerate(("figs", "plums"), 1):
            process.stdin.write(f"{text}\n")
            process.stdin.flush()
            done = json.loads(process.stdout.readline())
            assert (done["id"], done["text"]) == (number, text)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "Stopped. 2 texts were observed, and perhaps the one after them.\n"
    assert process.returncode == 130


def test_a_terminal_has_a_bar_and_a_pipe_has_none(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("".join(f"line {number}\n" for number in range(5)))
    ours, theirs = pty.openpty()
    words = ["memory", "observe", "--files", str(lines), "--memory", str(tmp_path / "notes"), *SMALL]
    with started(*words, env={"TERM": "xterm", "COLUMNS": "100"}, stdin=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        assert process.stdout is not None
        assert "\x1b" not in process.stdout.read()
        seen = b""
        while True:
            try:
                seen += os.read(ours, 4096)
            except OSError:  # what a terminal says when nobody is left
                break
    os.close(ours)
    assert process.returncode == 0
    assert b"Observing" in seen
    assert b"5/5" in seen
