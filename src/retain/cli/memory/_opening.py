"""Which memory is meant, what it is made with when it is new, and what it reads with."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from retain.text import Embedder, HashingEmbedder, MadeWith, MemoryConfig, MiniLM, Scope, TextMemory, WordLlama

EMBEDDERS = {"minilm": MiniLM, "wordllama": WordLlama, "hashing": HashingEmbedder}
WHERE = "RETAIN_MEMORY"

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # an embedder that is loaded draws no bar of its own


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a memory is, and whose."""

    memory: Annotated[Path | None, typer.Option("--memory", "-m", envvar=WHERE, help="Folder of the memory.")] = None
    user: Annotated[str, typer.Option(help="Whose memory of this folder: this user's.")] = ""
    agent: Annotated[str, typer.Option(help="Whose memory of this folder: this agent's.")] = ""
    run: Annotated[str, typer.Option(help="Whose memory of this folder: this run's.")] = ""
    timeout: Annotated[float, typer.Option(help="Seconds to wait while another process writes.")] = 10.0

    @property
    def folder(self) -> Path:
        """The folder that was asked for.

        Raises:
            ValueError: None was.
        """
        if self.memory is None:
            raise ValueError(f"which memory? Cure: --memory FOLDER, or the folder in the environment variable {WHERE}.")
        return self.memory

    @property
    def scope(self) -> Scope:
        return Scope(user=self.user, agent=self.agent, run=self.run)

    def made(self) -> MadeWith | None:
        """What the memory was made with, if there is one."""
        return MadeWith.read(self.folder, scope=self.scope, timeout=self.timeout)

    def there(self) -> MadeWith:
        """What the memory was made with.

        Raises:
            FileNotFoundError: There is none.
        """
        made = self.made()
        if made is None:
            raise FileNotFoundError(
                f"there is no memory in {self.scope.within(self.folder)}. Cure: another --memory or {WHERE}, or --user, --agent and --run as they were; "
                "retain memory observe makes one."
            )
        return made

    def opened(self, embedder: Embedder, config: MemoryConfig | None, *, read_only: bool = False) -> TextMemory:
        return TextMemory.open(self.folder, config, embedder=embedder, scope=self.scope, timeout=self.timeout, read_only=read_only)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What texts are read with."""

    embedder: Annotated[
        Literal["minilm", "wordllama", "hashing"] | None,
        typer.Option(help="What turns texts into vectors: that of the memory if left out, and minilm for a new one."),
    ] = None

    def of(self, made: MadeWith | None, device: str = "cpu") -> Embedder:
        """The embedder that is named, or the memory's own, or the first choice."""
        if self.embedder is None and made is not None:
            return made.embedder(device)
        if self.embedder in {None, "minilm"}:
            return MiniLM(device)
        return EMBEDDERS[str(self.embedder)]()


@dataclass(frozen=True, kw_only=True)
class Making:
    """What a new memory is made with. Each field is a field of ``MemoryConfig``; one that is left out is the memory's own, or the default."""

    dim: Annotated[int | None, typer.Option(help="Of a new memory: its width, 8 to 8192.")] = None
    preset: Annotated[str | None, typer.Option(help="Of a new memory: the rule by which it learns; retain presets lists them.")] = None
    memory_depth: Annotated[int | None, typer.Option(help="Of a new memory: layers of its network, 1 to 4.")] = None
    momentum: Annotated[float | None, typer.Option(help="Of a new memory: how much of each step lingers in the next.")] = None
    forgetting: Annotated[float | None, typer.Option(help="Of a new memory: the share of its weights that each step lets go.")] = None
    seed: Annotated[int | None, typer.Option(help="Of a new memory: which random weights it begins with.")] = None
    learning_rate: Annotated[float | None, typer.Option(help="How hard texts are written; a new memory keeps it.")] = None
    device: Annotated[str | None, typer.Option(help="Where it learns, such as cpu or cuda; a new memory keeps it.")] = None

    def config(self, made: MadeWith | None) -> MemoryConfig:
        """The memory's own config, or the default, with what was given in the place of what is there.

        Raises:
            ValueError: A number is outside its range, or there is no such device.
        """
        given = {name: value for name, value in asdict(self).items() if value is not None}
        config = MemoryConfig(**given) if made is None else replace(made.config, **given)
        try:
            kind = torch.device(config.device).type
        except RuntimeError:
            raise ValueError(f"there is no kind of device called {config.device!r}. Cure: --device cpu.") from None
        if kind not in {"cpu", "meta"} and not (kind == "cuda" and torch.cuda.is_available()) and not (kind == "mps" and torch.mps.is_available()):
            raise ValueError(f"this machine has no device {config.device!r} that torch can use. Cure: --device cpu.")
        return config


def at_rest(place: Place, *, read_only: bool = True) -> TextMemory:
    """The memory for what embeds nothing; whatever embedder it was made with need not be there."""
    made = place.there()
    return place.opened(made.absent(), replace(made.config, device="cpu"), read_only=read_only)


def asked(place: Place, reading: Reading) -> TextMemory:
    """The memory to be asked."""
    made = place.there()
    return place.opened(reading.of(made), replace(made.config, device="cpu"), read_only=True)


def learning(place: Place, reading: Reading, making: Making) -> TextMemory:
    """The memory to be taught, which is made if there is none."""
    made = place.made()
    config = making.config(made)
    return place.opened(reading.of(made, config.device), config)
