"""A text memory's methods as tools, with typed answers; what is refused is told to whoever called, and the server goes on."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from retain.text.memory import TextMemory

from .answers import Forgotten, Inferred, Kept, Observed, Restored, Stats, Surprise

ABOUT = (
    "A memory that lasts. observe each fact, preference or decision worth keeping, one short self-contained text at a time; infer, with a question or a "
    "topic, what was kept before; surprise tells how new a text is without keeping it. To correct something, forget the record of its id and observe what "
    "holds now. snapshot before risky changes, and restore to go back."
)

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
REMOVES = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)

Text = Annotated[str, Field(description="A text: a sentence or a short passage.")]
# A plain string, and no None: mcp takes a string that is valid JSON apart where a field may be anything else.
Associate = Annotated[str, Field(description="What the text is to recall, such as the answer to a question; itself if left out.")]


def server_of(memory: TextMemory) -> MCPServer[Any]:
    """A server whose tools are those of a memory: observe, infer, surprise, stats, forget, snapshot and restore.

    Args:
        memory: The memory; whoever opened it closes it when the server has ended.

    Examples:
        >>> import asyncio, tempfile
        >>> from retain.text import HashingEmbedder, MemoryConfig, TextMemory
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with TextMemory.open(folder, MemoryConfig(dim=16), embedder=HashingEmbedder()) as memory:
        ...         server = server_of(memory)
        ...         done = asyncio.run(server.call_tool("observe", {"text": "Python uses indentation"}))
        >>> done.structured_content["id"], done.structured_content["surprise"]
        (1, 0.5)
    """
    server: MCPServer[Any] = MCPServer("retain-memory", title="Memory", instructions=ABOUT, version=version("retain"), log_level="WARNING")
    tools = _Tools(memory)
    for tool, kind in (
        (tools.observe, ADDS),
        (tools.infer, READS),
        (tools.surprise, READS),
        (tools.stats, READS),
        (tools.forget, REMOVES),
        (tools.snapshot, ADDS),
        (tools.restore, REMOVES),
    ):
        server.add_tool(tools.told(tool), description=inspect.getdoc(tool), annotations=kind)
    return server


class _Tools:
    """The tools of one memory, one call at a time: tokenizers cannot be used by two threads at once."""

    def __init__(self, memory: TextMemory) -> None:
        self.memory, self.turn = memory, threading.Lock()

    def told(self, tool: Callable[..., Any]) -> Callable[..., Any]:
        """A tool whose refusals keep their words; the words of any other error stay on the server."""

        @functools.wraps(tool)
        def call(*arguments: Any, **named: Any) -> Any:
            try:
                with self.turn:
                    return tool(*arguments, **named)
            except KeyError as error:
                raise ToolError(str(error.args[0])) from None
            except (ValueError, TypeError, OSError, ImportError) as error:
                raise ToolError(str(error)) from None

        return call

    def observe(
        self,
        text: Text,
        associate: Associate = "",
        metadata: Annotated[dict[str, Any] | None, Field(description="Anything to keep with the record.")] = None,
        learning_rate: Annotated[float | None, Field(description="For this text only: larger writes harder. Leave out for the memory's own.")] = None,
    ) -> Observed:
        """Learn a text and keep it. Tells how surprising it was, and which earlier texts it excites."""
        done = self.memory.observe(text, associate or None, learning_rate=learning_rate, metadata=metadata)
        return Observed(**done)

    def infer(
        self,
        text: Annotated[str, Field(description="A question or a topic.")],
        top: Annotated[int, Field(description="How many texts at most.")] = 5,
        temperature: Annotated[float, Field(description="How evenly attention is spread over the texts.")] = 0.1,
    ) -> Inferred:
        """Recall what the memory has for a question or a topic. Changes nothing."""
        found = self.memory.infer(text, top=top, temperature=temperature)
        return Inferred(confidence=found["confidence"], patterns=found["patterns"], attention_weights=found["attention_weights"], ids=found["ids"])

    def surprise(self, text: Text, associate: Associate = "") -> Surprise:
        """How new a text is to the memory. Changes nothing."""
        return Surprise(surprise=self.memory.surprise(text, associate or None))

    def stats(self) -> Stats:
        """How much the memory holds, and where it stands. Changes nothing."""
        return Stats(**self.memory.stats(), weight_hash=self.memory.get_weight_hash())

    def forget(self, id: Annotated[int, Field(description="The record's number, as observe and infer tell it.")]) -> Forgotten:
        """Forget one record for good: its text, what it did to the weights, and the snapshots that hold it. Cannot be undone."""
        removed = self.memory.forget(id)
        return Forgotten(id=id, snapshots_removed=removed, weight_hash=self.memory.get_weight_hash())

    def snapshot(self, name: Annotated[str, Field(description="Up to 64 letters, digits, '_', '-' and '.'.")]) -> Kept:
        """Keep the memory as it is under a name, to be gone back to."""
        self.memory.snapshot(name)
        return Kept(name=name, snapshots=self.memory.snapshots())

    def restore(self, name: Annotated[str, Field(description="A snapshot, as stats tells them.")]) -> Restored:
        """Go back to a snapshot. What was observed since is gone; the snapshot stays."""
        self.memory.rollback(name)
        return Restored(name=name, records=self.memory.stats()["records"], weight_hash=self.memory.get_weight_hash())
