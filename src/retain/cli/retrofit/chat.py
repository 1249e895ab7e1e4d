"""`retain retrofit chat`: talk to a model that keeps what was said in its memories alone."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from retain.retrofit import AllTokens, CollapsedGate, Conversation, MarkedTokens, NoTokens, Telemetry, load, watch

HELP = "/save [FILE] /load FILE /reset /fork /back /off /on /surprise /stats /quit"
TOLD = 12
"""Tokens that /surprise names."""


def chat(
    folder: Annotated[Path, typer.Argument(help="Folder of trained memories, such as RUN/model.")],
    base: Annotated[str, typer.Option(help="The pretrained model that they belong to: a folder, or a name on the hub.")],
    memory: Annotated[Path | None, typer.Option(help="File of what the memories learnt: gone on from if it is there, written in the end.")] = None,
    window: Annotated[int, typer.Option(help="Tokens that may stay in sight behind a turn; with more, all of them go.")] = 0,
    keep_context: Annotated[bool, typer.Option("--keep-context", help="All that was said stays in sight.")] = False,
    writes: Annotated[Literal["all", "user", "off"], typer.Option(help="What is written: all that is read, the user's turns, or nothing.")] = "all",
    length: Annotated[int, typer.Option(help="Tokens of an answer at most.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 says the likeliest; above, it samples.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of sampling.")] = 0,
    device: Annotated[Literal["cuda", "cpu"] | None, typer.Option(help="On what; a GPU where there is one if left out.")] = None,
    lines: Annotated[bool, typer.Option("--json", help="Answer with lines of JSON.")] = False,
) -> None:
    """Chat with a model whose attention forgets each turn: what it knows of earlier ones it knows from memory.

    What is typed goes through the chat template of the base; a line that begins with / is a command. Standard input may be a file or a pipe.
    """
    logging.disable_progress_bar()
    try:
        model, tokenizer = loaded(folder, base, device)
        rule = {"all": AllTokens, "user": lambda: MarkedTokens.turns(tokenizer), "off": NoTokens}[writes]()
        talk = Conversation(model, tokenizer, writes=rule, window=None if keep_context else window, temperature=temperature)
        if memory is not None and memory.exists():
            talk.load(memory)
    except (ValueError, OSError) as error:
        typer.echo(f"retain retrofit chat: {error}", err=True)
        raise typer.Exit(2) from None
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedGate)  # /stats tells of those
        with watch(model) as seen:
            session = _Session(talk, seen, memory, lines)
            session.attend(length)
    if memory is not None and session.talk.cache.memories:
        session.talk.save(memory)


def loaded(folder: Path, base: str, device: str | None) -> tuple[PreTrainedModel, Any]:
    """A base with the memories of a folder, and its tokenizer; in bfloat16 on a GPU.

    Raises:
        ValueError: The folder is none of memories of this base, or there is no such device.
        OSError: The base is not there.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not the folder of trained memories. A run keeps them in RUN/model.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no GPU that torch can use. Cure: --device cpu.")
    on: Any = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16 if on == "cuda" else torch.float32)
    load(model.to(on), folder)
    return model.eval(), AutoTokenizer.from_pretrained(base)


class _Session:
    """One who types, and what is answered."""

    def __init__(self, talk: Conversation, seen: Telemetry, memory: Path | None, lines: bool) -> None:
        self.talk, self.seen, self.memory, self.lines = talk, seen, memory, lines
        self.before: list[Conversation] = []

    def attend(self, length: int) -> None:
        """Answer until there is nothing more to answer."""
        asks = sys.stdin.isatty() and not self.lines
        if asks:
            typer.echo(f"{HELP}")
        while True:
            try:
                words = input("> " if asks else "").strip()
                if words == "/quit":
                    return
                if words.startswith("/"):
                    self._command(*words[1:].split(maxsplit=1))
                elif words:
                    self._answer(words, length)
            except EOFError:
                return
            except KeyboardInterrupt:
                if not asks:
                    return
                typer.echo()

    def _answer(self, words: str, length: int) -> None:
        begin, said = time.perf_counter(), ""
        try:
            for piece in self.talk.say(words, length):
                said += piece
                if not self.lines:
                    sys.stdout.write(piece)
                    sys.stdout.flush()
        except KeyboardInterrupt:
            self.talk.cut()
        if self.lines:
            self._tell(
                said=said, seconds=round(time.perf_counter() - begin, 3), context=self.talk.cache.get_seq_length(), memory=self.talk.cache.hash()
            )
        else:
            typer.echo()

    def _command(self, name: str = "", given: str = "") -> None:
        commands: dict[str, Callable[[str], str]] = {
            **{"save": self._save, "load": self._load, "reset": self._reset, "fork": self._fork, "back": self._back},
            **{"on": self._on, "off": self._off, "surprise": self._surprise, "stats": self._stats},
        }
        try:
            told = commands[name](given) if name in commands else f"There is no /{name}. There are {HELP}"
        except (ValueError, OSError) as error:
            told = str(error)
        if self.lines:
            self._tell(command=name, told=told)
        else:
            typer.echo(told)

    def _tell(self, **what: Any) -> None:
        typer.echo(json.dumps(what))

    def _save(self, given: str) -> str:
        path = Path(given) if given else self.memory
        if path is None:
            return "/save wants a file, since there is no --memory."
        self.talk.save(path)
        return f"What the memories learnt is in {path}."

    def _load(self, given: str) -> str:
        if not given:
            return "/load wants a file."
        self.talk.load(given)
        return f"The memories are those of {given}."

    def _reset(self, given: str) -> str:
        self.talk.reset()
        return "All is forgotten."

    def _fork(self, given: str) -> str:
        self.before.append(self.talk)
        self.talk = self.talk.fork()
        return "From here on in a fork; /back leaves it and all that was said in it."

    def _back(self, given: str) -> str:
        if not self.before:
            return "There is no fork to leave."
        self.talk = self.before.pop()
        return "Where the fork began."

    def _on(self, given: str) -> str:
        self.talk.on = True
        return "The memories read and are asked."

    def _off(self, given: str) -> str:
        self.talk.on = False
        return "The model is its base; the memories stand still."

    def _surprise(self, given: str) -> str:
        if not self.talk.last:
            return "Nothing was read."
        most = sorted(self.talk.last, key=lambda one: -one[1])[:TOLD]
        return "\n".join(f"{amount:8.2f}  {token!r}" for token, amount in most)

    def _stats(self, given: str) -> str:
        shut = "".join(f"\nThe gate of {name} no longer chooses." for name in self.seen.collapsed())
        return f"{self.seen.table()}\n{self.talk.cache.get_seq_length()} tokens in sight.{shut}"
