"""What reading and speaking cost: time, and memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .recall import Watch
from .resident import Resident
from .result import About, AbstractResult, about, figures, table
from .stream import Stream, at_rest, device_of


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """What one length costs.

    Args:
        length: Tokens of each row.
        seconds: Of reading them all, one number a repeat.
        decode_seconds: Of a further token, read by itself and answered, behind all of them; one number a repeat.
        state_bytes: What is kept of a row behind them; None if the cache does not tell.
        before_bytes: What the process occupied before it read; None where the system does not tell.
        peak_bytes: The most that it occupied while it read and spoke.

    Examples:
        >>> row = CostRow(length=8, seconds=(2.0, 1.0, 9.0), decode_seconds=(0.5,), state_bytes=64, before_bytes=None, peak_bytes=None)
        >>> row.median, row.decode_median
        (2.0, 0.5)
    """

    length: int
    seconds: tuple[float, ...]
    decode_seconds: tuple[float, ...]
    state_bytes: int | None
    before_bytes: int | None
    peak_bytes: int | None

    @property
    def median(self) -> float:
        """Of the seconds of reading."""
        return statistics.median(self.seconds)

    @property
    def decode_median(self) -> float:
        """Of the seconds of a further token."""
        return statistics.median(self.decode_seconds)


@dataclass(frozen=True, kw_only=True)
class Cost(AbstractResult):
    """What a model costs, length by length.

    Args:
        title: Of its table.
        parameters: Numbers that training sets.
        batch: Rows that were read side by side.
        rows: Of each length.
        about: What the numbers must be read with.

    Examples:
        >>> row = CostRow(length=1000, seconds=(0.5,), decode_seconds=(0.002,), state_bytes=2000, before_bytes=10**8, peak_bytes=2 * 10**8)
        >>> print(Cost(title="Cost", parameters=1234, batch=2, rows=(row,), about={}))
        **Cost**: 1,234 parameters, batch of 2
        <BLANKLINE>
        | tokens | read, s | read, tokens/s | decode, ms a token | decode, tokens/s | state, kB a row | peak, MB | above start, MB |
        | --- | --- | --- | --- | --- | --- | --- | --- |
        | 1,000 | 0.5 | 4,000 | 2 | 1,000 | 2 | 200 | 100 |
    """

    kind: ClassVar[str] = "cost"

    title: str
    parameters: int
    batch: int
    rows: tuple[CostRow, ...]
    about: About

    def markdown(self) -> str:
        """The table: medians of the repeats."""
        head = ["tokens", "read, s", "read, tokens/s", "decode, ms a token", "decode, tokens/s", "state, kB a row", "peak, MB", "above start, MB"]
        lines = []
        for row in self.rows:
            rise = None if row.peak_bytes is None or row.before_bytes is None else row.peak_bytes - row.before_bytes
            read, said = self.batch * row.length / row.median, self.batch / row.decode_median
            numbers = [
                row.median,
                read,
                1e3 * row.decode_median,
                said,
                *(_in(*x) for x in ((row.state_bytes, 1e3), (row.peak_bytes, 1e6), (rise, 1e6))),
            ]
            lines.append([f"{row.length:,}", *("not known" if x is None else figures(x) for x in numbers)])
        return f"**{self.title}**: {self.parameters:,} parameters, batch of {self.batch}\n\n" + table(head, lines)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Cost:
        rows = (CostRow(**{**row, "seconds": tuple(row["seconds"]), "decode_seconds": tuple(row["decode_seconds"])}) for row in data["rows"])
        return cls(**{**data, "rows": tuple(rows)})


def cost(
    model: nn.Module,
    lengths: Sequence[int] = (1024, 4096, 16384),
    *,
    batch: int = 1,
    chunk: int = 4096,
    decoded: int = 32,
    repeats: int = 3,
    progress: Watch | None = None,
    title: str = "Cost",
) -> Cost:
    """What a model costs: seconds of reading, of each further token, the size of its state, and memory.

    It reads random tokens in chunks, scores the last of them, and goes on token by token with what it finds likeliest.

    Args:
        model: A causal language model with ``config.vocab_size``.
        lengths: Tokens that are read.
        batch: Rows side by side.
        chunk: Tokens that are read at once.
        decoded: Tokens that are decoded behind them.
        repeats: How often each length is measured, after one time that does not count.
        progress: Is told how far it is.
        title: Of the table.

    Raises:
        ValueError: A number is not positive.

    Examples:
        >>> from retain.models import RetainConfig, RetainForCausalLM
        >>> model = RetainForCausalLM(RetainConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, window=4))
        >>> found = cost(model, lengths=(64, 256), decoded=2, repeats=1)
        >>> found.rows[0].state_bytes == found.rows[1].state_bytes, found.rows[1].median > 0
        (True, True)
    """
    if not lengths or min(*lengths, batch, chunk, decoded, repeats) < 1:
        raise ValueError(
            f"cost needs lengths, batch, chunk, decoded and repeats of 1 at least, got {list(lengths)}, {batch}, {chunk}, {decoded}, {repeats}."
        )
    vocabulary: int = getattr(model, "config").vocab_size  # noqa: B009  a module's own attributes have no types
    generator, rows, done = torch.Generator().manual_seed(0), [], 0
    with at_rest(model):
        for length in lengths:
            tokens = torch.randint(vocabulary, (batch, length), generator=generator)
            with Resident() as resident:
                taken = []
                for _ in range(1 + repeats):
                    taken.append(_measure(model, tokens, chunk, decoded, resident))
                    done += 1
                    if progress is not None:
                        progress(done / (len(lengths) * (1 + repeats)), f"{length:,} tokens")
            seconds, decode_seconds, kept = zip(*taken[1:], strict=True)
            rows.append(
                CostRow(
                    length=length,
                    seconds=seconds,
                    decode_seconds=decode_seconds,
                    state_bytes=kept[0],
                    before_bytes=resident.before,
                    peak_bytes=resident.peak,
                )
            )
    return Cost(title=title, parameters=sum(w.numel() for w in model.parameters()), batch=batch, rows=tuple(rows), about=about(model))


def _measure(model: nn.Module, tokens: Tensor, chunk: int, decoded: int, resident: Resident) -> tuple[float, float, int | None]:
    """Seconds of reading, of each further token, and bytes that are kept of a row."""
    stream, device = Stream(model), device_of(model)
    begin = _now(device)
    *parts, end = tokens.split(chunk, dim=1)
    for part in parts:
        stream.read(part, torch.zeros(0, dtype=torch.long))
        resident.look()
    scores = stream.read(end, torch.tensor([end.shape[1] - 1]))
    resident.look()
    read, kept = _now(device) - begin, stream.bytes_per_row()
    begin, last = _now(device), torch.zeros(1, dtype=torch.long)
    for _ in range(decoded):
        scores = stream.read(scores.argmax(-1), last)
    resident.look()
    return read, (_now(device) - begin) / decoded, kept


def _now(device: torch.device) -> float:
    """Seconds, when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _in(x: int | None, unit: float) -> float | None:
    return None if x is None else x / unit
