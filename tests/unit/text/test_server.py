"""A memory as a server of the Model Context Protocol, asked by the protocol's own client: over pipes, over HTTP, and in this process."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from typer.testing import CliRunner

from retain.cli.main import app
from retain.text import HashingEmbedder, TextMemory
from retain.text.server import Door, server_of
from tests.unit.cli.shells import environment, started
from tests.unit.text.memories import FACTS, opened

SERVE = ["-m", "retain", "memory", "serve", "--embedder", "hashing", "--dim", "16"]
TOKEN = "a-token-of-a-test"
HELLO = {
    **{"jsonrpc": "2.0", "id": 1, "method": "initialize"},
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "hand", "version": "0"}},
}
Call = Callable[..., Awaitable[Any]]


def caller(client: Client) -> Call:
    """What calls a tool and gives its structured answer, or the words of its refusal."""

    async def call(tool: str, **arguments: Any) -> Any:
        result = await client.call_tool(tool, arguments)
        if not result.is_error:
            assert json.loads(result.content[0].text) == result.structured_content  # pyright: ignore[reportAttributeAccessIssue]
            return result.structured_content
        return result.content[0].text  # pyright: ignore[reportAttributeAccessIssue]

    return call


@asynccontextmanager
async def over_pipes(folder: Path) -> AsyncGenerator[Call, None]:
    """The tools of a server in a process of its own."""
    with open(os.devnull, "w") as nowhere:
        how = StdioServerParameters(command=sys.executable, args=[*SERVE, "--memory", str(folder)], env=environment())
        async with Client(stdio_client(how, errlog=nowhere)) as client:
            yield caller(client)


def closed(folder: Path) -> bool:
    """Whether whoever wrote there last has closed the memory, and was not cut off."""
    return (folder / "records.sqlite").is_file() and not (folder / "records.sqlite-wal").exists()


# ---- in this process


def test_the_tools_tell_what_they_take_and_give(tmp_path: Path) -> None:
    async def ask(memory: TextMemory) -> dict[str, Any]:
        async with Client(server_of(memory)) as client:
            return {tool.name: tool for tool in (await client.list_tools()).tools}

    with opened(tmp_path / "notes") as memory:
        tools = anyio.run(ask, memory)
    assert set(tools) == {"observe", "infer", "surprise", "stats", "forget", "snapshot", "restore"}
    for tool in tools.values():
        assert tool.description
        assert tool.output_schema["type"] == "object"
        assert all("description" in field for field in tool.input_schema.get("properties", {}).values())
        assert all("description" in field for field in tool.output_schema["properties"].values())
    assert tools["observe"].input_schema["required"] == ["text"]
    assert {name for name, tool in tools.items() if tool.annotations.read_only_hint} == {"infer", "surprise", "stats"}
    assert {name for name, tool in tools.items() if tool.annotations.destructive_hint} == {"forget", "restore"}


def test_a_tool_does_what_the_method_does(tmp_path: Path) -> None:
    async def use(memory: TextMemory) -> list[Any]:
        async with Client(server_of(memory)) as client:
            call = caller(client)
            first = await call("observe", text=FACTS[0])
            rest = [await call("observe", text=text) for text in FACTS[1:]]
            pair = await call("observe", text="figs", associate='{"price": [1, 2]}', metadata={"a": [None]}, learning_rate=0.02)
            return [first, *rest, pair, await call("infer", text="figs", top=2), await call("surprise", text="figs"), await call("stats")]

    with opened(tmp_path / "same") as same:
        expected: list[Any] = [same.observe(text) for text in FACTS]
        expected.append(same.observe("figs", '{"price": [1, 2]}', metadata={"a": [None]}, learning_rate=0.02))
        found: dict[str, Any] = dict(same.infer("figs", top=2))
        del found["response"]
        stats = {**same.stats(), "weight_hash": same.get_weight_hash(), "path": str(tmp_path / "notes")}
        expected += [found, {"surprise": same.surprise("figs")}, stats]
    with opened(tmp_path / "notes") as memory:
        assert anyio.run(use, memory) == expected
        assert memory.history()[-1]["metadata"] == {"a": [None]}


def test_calls_at_once_take_turns(tmp_path: Path) -> None:
    async def use(memory: TextMemory) -> set[int]:
        found = set()
        async with Client(server_of(memory)) as client, anyio.create_task_group() as group:
            call = caller(client)

            async def one(text: str) -> None:
                found.add((await call("observe", text=text))["id"])

            for text in FACTS:
                group.start_soon(one, text)
        return found

    with opened(tmp_path / "notes") as memory:
        assert anyio.run(use, memory) == set(range(1, len(FACTS) + 1))
        assert sorted(entry["text"] for entry in memory.history()) == sorted(FACTS)


# ---- over pipes


def test_a_session_over_pipes(tmp_path: Path) -> None:
    async def use() -> None:
        async with over_pipes(tmp_path / "notes") as call:
            refusals = [
                (await call("observe", text=""), "text is empty"),
                (await call("observe", text="a\0b"), "NUL character"),
                (await call("observe", text="x" * 70_000), "has 70000 bytes"),
                (await call("observe", text=7), "valid string"),
                (await call("observe"), "Field required"),
                (await call("observe", text="x", learning_rate=-1.0), "learning_rate must be a positive finite number"),
                (await call("infer", text="x", top=0), "top counts patterns"),
                (await call("forget", id=5), "there is no record 5 to forget"),
                (await call("restore", name="monday"), "there is no snapshot 'monday'"),
                (await call("snapshot", name="../out"), "a snapshot's name has"),
                (await call("remember", text="x"), "Unknown tool"),
            ]
            for said, expected in refusals:
                assert expected in said
            assert (await call("stats"))["records"] == 0
            assert await call("infer", text="x") == {"confidence": 0.0, "patterns": [], "attention_weights": [], "ids": []}
            first = await call("observe", text=FACTS[0])
            assert (first["id"], first["surprise"], first["patterns_activated"]) == (1, 0.5, [])
            before = (await call("stats"))["weight_hash"]
            assert await call("snapshot", name="monday") == {"name": "monday", "snapshots": ["monday"]}
            assert (await call("observe", text=FACTS[0]))["patterns_activated"] == [FACTS[0]]
            assert (await call("infer", text=FACTS[0]))["patterns"] == [FACTS[0]] * 2
            assert await call("restore", name="monday") == {"name": "monday", "records": 1, "weight_hash": before}
            assert (await call("surprise", text=FACTS[0]))["surprise"] < 0.5
            empty = await call("forget", id=1)
            assert (empty["id"], empty["snapshots_removed"]) == (1, ["monday"])
            assert empty["weight_hash"] != before

    anyio.run(use)


def test_two_servers_and_a_shell_write_to_one_memory(tmp_path: Path) -> None:
    async def use() -> None:
        async with over_pipes(tmp_path / "notes") as one, over_pipes(tmp_path / "notes") as other, anyio.create_task_group() as group:

            async def write(call: Call, name: str) -> None:
                for number in range(10):
                    assert "id" in await call("observe", text=f"{name} says {number}")

            def shell() -> None:
                for number in range(3):
                    words = ["memory", "observe", f"shell says {number}", "--memory", str(tmp_path / "notes")]
                    done = CliRunner().invoke(app, words)
                    assert done.exit_code == 0, done.output

            await one("stats")
            group.start_soon(write, one, "ann")
            group.start_soon(write, other, "bob")
            await anyio.to_thread.run_sync(shell)
        async with over_pipes(tmp_path / "notes") as again:
            assert (await again("stats"))["records"] == 23

    anyio.run(use)
    with TextMemory.open(tmp_path / "notes", embedder=HashingEmbedder()) as memory:
        texts, named = [entry["text"] for entry in memory.history()], memory.get_weight_hash()
        config, embedder = memory.config, memory.embedder
    for name, count in (("ann", 10), ("bob", 10), ("shell", 3)):
        assert [text for text in texts if text.startswith(name)] == [f"{name} says {number}" for number in range(count)]
    with TextMemory.open(tmp_path / "same", config, embedder=embedder) as same:
        for text in texts:
            same.observe(text)
        assert same.get_weight_hash() == named


def test_nothing_but_the_protocol_goes_to_standard_output(tmp_path: Path) -> None:
    """By hand, and with the embedder that has most to say while it is loaded."""
    asked = [
        HELLO,
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "observe", "arguments": {"text": "figs"}}},
        "this is no protocol",
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "surprise", "arguments": {"text": "figs"}}},
    ]
    with started("memory", "serve", "--dim", "32", env={"RETAIN_MEMORY": str(tmp_path / "notes")}) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answers: dict[int | None, Any] = {}
        for message in asked:
            process.stdin.write(f"{message if isinstance(message, str) else json.dumps(message)}\n")
            process.stdin.flush()
            while isinstance(message, dict) and "id" in message and message["id"] not in answers:
                answer = json.loads(process.stdout.readline())
                assert answer["jsonrpc"] == "2.0"
                answers[answer.get("id")] = answer
        process.stdin.close()
        assert [json.loads(line)["jsonrpc"] for line in process.stdout] == []
    assert process.returncode == 0
    assert answers[1]["result"]["serverInfo"]["name"] == "retain-memory"
    assert answers[2]["result"]["structuredContent"]["id"] == 1
    assert answers[3]["result"]["structuredContent"]["surprise"] < 0.5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_server_that_waits(number: signal.Signals, tmp_path: Path) -> None:
    with started(*SERVE[2:], "--memory", str(tmp_path / "notes")) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        observe = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "observe", "arguments": {"text": "figs"}}}
        for message in (HELLO, {"jsonrpc": "2.0", "method": "notifications/initialized"}, observe):
            process.stdin.write(f"{json.dumps(message)}\n")
            process.stdin.flush()
        assert [json.loads(process.stdout.readline())["id"] for _ in range(2)] == [1, 2]
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    assert closed(tmp_path / "notes")


# ---- over HTTP


@contextmanager
def over_http(folder: Path, **env: str) -> Generator[tuple[str, Any], None, None]:
    """A server's address, and its process."""
    with started(*SERVE[2:], "--memory", str(folder), "--http", "--port", "0", env=env) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            address = re.fullmatch(rf"Serving {folder} at (http://127\.0\.0\.1:\d+/mcp)\n", said)
            assert address, said
            yield address[1], process
        finally:
            process.kill()


def knocked(address: str, **headers: str) -> int:
    """The status that a request gets."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    given = {"accept": "application/json, text/event-stream", **headers}
    return httpx2.post(address, json=body, headers=given, timeout=60.0).status_code


def observed(address: str, text: str, **headers: str) -> dict[str, Any]:
    async def use() -> Any:
        async with httpx2.AsyncClient(headers=headers, timeout=60.0) as http, Client(streamable_http_client(address, http_client=http)) as client:
            return await caller(client)("observe", text=text)

    return anyio.run(use)


def test_http_is_for_this_machine_alone(tmp_path: Path) -> None:
    with over_http(tmp_path / "notes") as (address, process):
        assert observed(address, "figs")["id"] == 1
        assert observed(address, "plums")["id"] == 2
        assert knocked(address, host="evil.example") == 421
        assert knocked(address, origin="http://evil.example") == 403
        words = ["memory", "serve", "--http", "--port", re.findall(r":(\d+)/", address)[0], "--memory", str(tmp_path / "notes")]
        taken = CliRunner().invoke(app, words)
        assert taken.exit_code == 2
        assert "cannot be listened on at port" in taken.stderr
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # of this process, as it was before
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert process.returncode == 128 + signal.SIGTERM
    assert closed(tmp_path / "notes")


def test_a_token_is_asked_for(tmp_path: Path) -> None:
    with over_http(tmp_path / "notes", RETAIN_MEMORY_TOKEN=TOKEN) as (address, _):
        assert observed(address, "figs", authorization=f"Bearer {TOKEN}")["id"] == 1
        assert knocked(address, authorization=f"bearer {TOKEN}", host="memory.example") == 200
        for headers in ({}, {"authorization": TOKEN}, {"authorization": f"Basic {TOKEN}"}, {"authorization": f"Bearer {TOKEN[:-1]}"}):
            assert knocked(address, **headers) == 401
        assert knocked(address.removesuffix("/mcp") + "/else") == 401
    with TextMemory.open(tmp_path / "notes", embedder=HashingEmbedder()) as memory:
        assert len(memory.history()) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", ""])
def test_no_other_machine_without_a_token(host: str, tmp_path: Path) -> None:
    words = ["memory", "serve", "--memory", str(tmp_path / "notes"), "--http", "--host", host]
    done = CliRunner().invoke(app, words, env={"RETAIN_MEMORY_TOKEN": ""})
    assert (done.exit_code, done.stdout) == (2, "")
    assert "can be reached from other machines" in done.stderr
    assert not (tmp_path / "notes").exists()


def test_the_door_lets_in_whoever_has_the_token_and_nobody_else() -> None:
    door = Door(host="0.0.0.0", token="t0ken")
    said = {
        (b"Authorization", b"Bearer t0ken"): True,
        (b"authorization", b"BEARER   t0ken "): True,
        (b"authorization", b"Bearer T0ken"): False,
        (b"authorization", b"Bearer t0kent0ken"): False,
        (b"authorization", b"Bearer "): False,
        (b"authorization", b"\xff\xfe"): False,
        (b"x-authorization", b"Bearer t0ken"): False,
    }
    assert {header: door.admits([(b"host", b"x"), header]) for header in said} == said
    assert not door.admits([(b"authorization", b"Bearer t0ken")] * 2)
    for token in ("", "two words", "größe", "line\n"):
        with pytest.raises(ValueError, match="openssl rand -hex 32"):
            Door(token=token)
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        assert Door(host=host).admits([])
