"""How well a text is foretold along the way, with all a model has and without what a control takes away."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from .control import CONTROLS, AbstractControl, AbstractCut, check_names
from .recall import Watch
from .result import MODEL, About, AbstractResult, about, check_controls, table, titled
from .stream import Stream, at_rest


@dataclass(frozen=True, kw_only=True)
class Perplexity(AbstractResult):
    """Bits that each token of a text costs given all before it, by its place, beside the controls.

    Args:
        title: Of its table.
        controls: Names of the controls.
        edges: Bin i holds the tokens from place ``edges[i]`` to before ``edges[i + 1]``; the first is at place 1, as nothing stands before place 0.
        bits: Mean bits a token of each bin, by reading.
        rows: Texts that were read side by side.
        bytes_per_token: How many bytes a token stands for on average, if it is known.
        about: What the numbers must be read with.

    Examples:
        >>> result = Perplexity(
        ...     title="A book", controls=("writes off",), edges=(1, 3, 5), bits={"model": (2.0, 1.0), "writes off": (2.0, 2.0)}, rows=1,
        ...     bytes_per_token=2.0, about={},
        ... )
        >>> result.mean(), result.perplexity("writes off")
        (1.5, 4.0)
        >>> print(result)
        **A book**: bits a token, and a byte
        <BLANKLINE>
        | reading | 1 to 3 | 3 to 5 | all | all, a byte | perplexity |
        | --- | --- | --- | --- | --- | --- |
        | model | 2.000 | 1.000 | 1.500 | 0.750 | 2.83 |
        | writes off | 2.000 | 2.000 | 2.000 | 1.000 | 4 |
    """

    kind: ClassVar[str] = "perplexity"

    title: str
    controls: tuple[str, ...]
    edges: tuple[int, ...]
    bits: Mapping[str, tuple[float, ...]]
    rows: int
    bytes_per_token: float | None
    about: About

    def mean(self, reading: str = MODEL) -> float:
        """Mean bits a token over all bins.

        Raises:
            ValueError: There is no such reading.
        """
        if reading not in self.bits:
            raise ValueError(f"there is no reading {reading!r}; there are {', '.join(map(repr, self.bits))}.")
        widths = [high - low for low, high in pairwise(self.edges)]
        return sum(width * bits for width, bits in zip(widths, self.bits[reading], strict=True)) / sum(widths)

    def perplexity(self, reading: str = MODEL) -> float:
        """Two to the power of the mean bits a token: between how many tokens the model was in doubt on average."""
        mean = self.mean(reading)
        return 2**mean if mean < 1000 else math.inf

    def markdown(self) -> str:
        """The table, with the controls beside the model.

        Raises:
            ValueError: The controls are not there and the title does not say so.
        """
        self.check()
        lines = []
        for reading, bits in self.bits.items():
            a_byte = [] if self.bytes_per_token is None else [f"{self.mean(reading) / self.bytes_per_token:.3f}"]
            lines.append([reading, *(f"{b:.3f}" for b in bits), f"{self.mean(reading):.3f}", *a_byte, f"{self.perplexity(reading):.3g}"])
        places = [f"{low:,} to {high:,}" for low, high in pairwise(self.edges)]
        a_byte = [] if self.bytes_per_token is None else ["all, a byte"]
        unit = "bits a token" if self.bytes_per_token is None else "bits a token, and a byte"
        return f"**{self.title}**: {unit}\n\n" + table(["reading", *places, "all", *a_byte, "perplexity"], lines)

    def check(self) -> None:
        """Refuse to be shown without controls.

        Raises:
            ValueError: The controls are not there and the title does not say so.
        """
        check_controls(self.title, self.controls, list(self.bits))

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Perplexity:
        bits = {reading: tuple(each) for reading, each in data["bits"].items()}
        return cls(**{**data, "controls": tuple(data["controls"]), "edges": tuple(data["edges"]), "bits": bits})


def perplexity(
    model: nn.Module,
    tokens: Int[Tensor, "*batch time"],
    bins: int | Sequence[int] = 8,
    *,
    controls: Sequence[AbstractControl] = CONTROLS,
    chunk: int = 1024,
    bytes_per_token: float | None = None,
    progress: Watch | None = None,
    title: str = "Bits by place",
) -> Perplexity:
    """Bits that each token of texts costs given all before it, by its place, with all a model has and without what each control takes away.

    Texts are streamed through the model's cache in chunks, so the memory that they take does not grow with their length; it is that of the scores of
    a chunk, batch x chunk x vocabulary numbers. Controls that cut are applied at the beginning of each bin, if anything stands before it: with
    ``MemoryReset`` memories know nothing but the bin's own tokens, with ``WindowCut`` nothing but memories reaches over from one bin to the next.

    Args:
        model: The model, such as ``RetainForCausalLM``, or one of transformers' if ``controls=()``.
        tokens: The text [time], or texts of one length [batch, time].
        bins: How many equal stretches to report, or the places at which stretches begin and end, such as ``(1, 1024, 4096)``.
        controls: What is taken from the model, row by row.
        chunk: Tokens that are read at once.
        bytes_per_token: How many bytes a token stands for on average, for bits a byte.
        progress: Is told how far it is.
        title: Of the table.

    Raises:
        ValueError: The text is too short for the bins, bins do not rise, or a control does not fit the model.

    Examples:
        >>> from retain.models import RetainConfig, RetainForCausalLM
        >>> model = RetainForCausalLM(RetainConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, window=4))
        >>> result = perplexity(model, torch.arange(33) % 16, bins=4)
        >>> result.edges, list(result.bits)
        ((1, 9, 17, 25, 33), ['model', 'writes off', 'memory reset', 'window cut'])
    """
    text, controls = tokens.reshape(-1, tokens.shape[-1]), tuple(controls)
    names = check_names(controls, taken=(MODEL,))
    edges = _edges(bins, text.shape[1])
    if chunk < 1 or not text.shape[0] or (bytes_per_token is not None and bytes_per_token <= 0):
        raise ValueError(f"perplexity needs a text, chunk >= 1 and bytes_per_token > 0, got {len(text)} texts, chunk={chunk}, {bytes_per_token}.")
    readings: dict[str, AbstractControl | None] = {MODEL: None, **dict(zip(names, controls, strict=True))}
    bits: dict[str, tuple[float, ...]] = {}
    with at_rest(model):
        for number, (name, control) in enumerate(readings.items()):

            def tick(share: float, name: str = name, number: int = number) -> None:
                if progress is not None:
                    progress((number + share) / len(readings), name)

            bits[name] = _bits(model, text, edges, control, chunk, tick)
    return Perplexity(
        title=titled(title, controls), controls=names, edges=edges, bits=bits, rows=len(text), bytes_per_token=bytes_per_token, about=about(model)
    )


def _edges(bins: int | Sequence[int], time: int) -> tuple[int, ...]:
    if isinstance(bins, int):
        if not 1 <= bins < time:
            raise ValueError(f"perplexity needs bins >= 1 and a token of each to foretell, got bins={bins} and a text of {time} tokens.")
        return tuple(1 + (time - 1) * i // bins for i in range(bins + 1))
    edges = tuple(bins)
    if len(edges) < 2 or edges[0] < 1 or edges[-1] > time or any(low >= high for low, high in pairwise(edges)):
        raise ValueError(f"bins must rise from 1 at least to {time} at most, the length of the text, got {list(edges)}.")
    return edges


def _bits(
    model: nn.Module, text: Tensor, edges: tuple[int, ...], control: AbstractControl | None, chunk: int, tick: Callable[[float], None]
) -> tuple[float, ...]:
    """Mean bits a token of each bin. What foretells the token at place p is the one before it, so bins of tokens that are read begin one place earlier."""
    stream, everybody = Stream(model, write=control is None or control.writes), torch.ones(len(text), dtype=torch.bool)
    sums, last = [0.0] * (len(edges) - 1), edges[-1] - 1
    firsts = [edge - 1 for edge in edges]
    bin_of = -1
    for start, stop in pairwise(sorted({*range(0, last, chunk), *firsts})):
        if start in firsts:
            bin_of += 1
            if isinstance(control, AbstractCut) and start:
                stream.cut(control, everybody)
        wanted = torch.arange(stop - start if bin_of >= 0 else 0)
        scores = stream.read(text[:, start:stop], wanted)
        if bin_of >= 0:
            true = text[:, start + 1 : stop + 1].to(scores.device)
            sums[bin_of] += float(F.cross_entropy(scores.flatten(0, 1).float(), true.flatten(), reduction="none").double().sum())
        tick(stop / last)
    counts = (len(text) * (high - low) for low, high in pairwise(edges))
    return tuple(nats / math.log(2) / count for nats, count in zip(sums, counts, strict=True))
