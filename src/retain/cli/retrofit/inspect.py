"""`retain retrofit inspect`: what memories there are, and what they do with a text."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

from retain.evaluation.result import table
from retain.retrofit import CollapsedGate, MemoryCache, attentions_of, memory_config, opening, settle, surprises, watch

from .chat import loaded

TOLD = 20
"""Tokens that surprised most that are named."""


def inspect(
    folder: Annotated[Path, typer.Argument(help="Folder of trained memories, such as RUN/model.")],
    base: Annotated[str, typer.Option(help="The pretrained model that they belong to: a folder, or a name on the hub.")],
    text: Annotated[str | None, typer.Option(help="A file that the model reads, or - for standard input.")] = None,
    part: Annotated[int, typer.Option(help="Tokens of each part that it is read in, with a fresh attention cache.")] = 512,
    device: Annotated[Literal["cuda", "cpu"] | None, typer.Option(help="On what; a GPU where there is one if left out.")] = None,
    lines: Annotated[bool, typer.Option("--json", help="All of it as JSON.")] = False,
) -> None:
    """Tell which memories there are, how strongly they have a say, and, given a text, how open they stand, what they write and what surprises them."""
    logging.disable_progress_bar()
    try:
        words = None if text is None else sys.stdin.read() if text == "-" else Path(text).read_text(encoding="utf-8")
        if words is not None and not words.strip():
            raise ValueError("there is nothing in the text. Cure: a file with something in it, or text on standard input with --text -.")
        if part < 1:
            raise ValueError(f"a part has at least one token, got {part}.")
        model, tokenizer = loaded(folder, base, device)
        found: dict[str, Any] = {"memory": memory_config(model).to_dict(), "layers": _layers(model)}
        if words is not None:
            tokens = torch.tensor(tokenizer.encode(words, add_special_tokens=False))
            found["text"] = _read(model, tokenizer, tokens, part)
    except (ValueError, OSError) as error:
        typer.echo(f"retain retrofit inspect: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(json.dumps(found, indent=1) if lines else "\n\n".join(_told(found)))


def _layers(model: PreTrainedModel) -> list[dict[str, Any]]:
    rows = []
    with torch.no_grad():
        for name, attention in attentions_of(model).items():
            branch: Any = attention.memory
            say = math.tanh(float(branch.strength))
            bias = float(branch.to_gate.bias)
            count = sum(weight.numel() for weight in branch.parameters())
            rows.append({"layer": name, "parameters": count, "heads": branch.memory.heads, "strength": say, "gate": say / (1 + math.exp(-bias))})
    return rows


def _read(model: PreTrainedModel, tokenizer: Any, tokens: Tensor, part: int) -> dict[str, Any]:
    """What the memories did with a text that was read from part to part."""
    cache, parts, each = MemoryCache(model.config), [], []
    start = opening(tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedGate)  # said below
        with torch.no_grad(), watch(model) as seen:
            for number, stretch in enumerate(tokens.split(part)):
                given = torch.cat([torch.tensor(start), stretch])[None].to(model.device)
                with surprises(model) as surprised:
                    model.get_decoder()(input_ids=given, past_key_values=cache, use_cache=True)
                cache = settle(model, cache).memories_only()
                here = surprised.by_token()[0, len(start) :]
                branches = {name: float(found[0, len(start) :].mean()) for name, found in surprised.by_branch().items()}
                parts.append({"part": number + 1, "tokens": len(stretch), "surprise": branches})
                each += [
                    {"token": tokenizer.decode([token]), "place": number * part + i, "surprise": amount}
                    for i, (token, amount) in enumerate(zip(stretch.tolist(), here.tolist(), strict=True))
                ]
    most = sorted(each, key=lambda one: -one["surprise"])[:TOLD]
    return {
        "tokens": len(tokens),
        "branches": seen.report(),
        "table": seen.table(),
        "parts": parts,
        "most": most,
        "collapsed": list(seen.collapsed()),
    }


def _told(found: dict[str, Any]) -> Iterator[str]:
    memory = found["memory"]
    yield f"{len(found['layers'])} memories of {sum(row['parameters'] for row in found['layers']):,} parameters."
    yield "\n".join(f"{name}: {json.dumps(memory[name])}" for name in memory)
    rows = [[r["layer"], f"{r['parameters']:,}", str(r["heads"]), f"{r['strength']:.4f}", f"{r['gate']:.4f}"] for r in found["layers"]]
    yield table(["layer", "parameters", "heads", "strength", "gate without input"], rows)
    if "text" not in found:
        return
    text = found["text"]
    yield f"{text['tokens']:,} tokens were read."
    yield text["table"]
    names = [row["layer"] for row in text["branches"]]
    yield table(["part", "tokens", *(f"surprise of {name}" for name in names)], [_row(one, names) for one in text["parts"]])
    yield table(["surprised most", "token", "place"], [[f"{one['surprise']:.2f}", repr(one["token"]), str(one["place"])] for one in text["most"]])
    for name in text["collapsed"]:
        yield f"The gate of {name} no longer chooses: it stood shut, or wide open, for all that was read."


def _row(one: dict[str, Any], names: list[str]) -> list[str]:
    return [str(one["part"]), str(one["tokens"]), *(f"{one['surprise'][name]:.4g}" for name in names)]
