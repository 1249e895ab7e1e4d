"""`retain generate`: what a trained model says next."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from transformers import AutoTokenizer
from transformers.utils import logging

from retain.models import RetainForCausalLM


def generate(
    model: Annotated[Path, typer.Argument(help="Folder of a model, such as RUN/model or one of its checkpoints.")],
    prompt: Annotated[str | None, typer.Option(help="What it goes on from; standard input if left out.")] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="The prompt is token numbers with spaces between them, and so is what is said.")] = False,
    length: Annotated[int, typer.Option(help="Tokens to say.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 says the likeliest; above, it samples.")] = 0.0,
    beams: Annotated[int, typer.Option(help="Beams of a beam search; 1 is none.")] = 1,
    seed: Annotated[int, typer.Option(help="Of sampling.")] = 0,
) -> None:
    """Let a model go on from a prompt: bytes of text, the model's own tokens if it has a tokenizer, or numbers."""
    logging.disable_progress_bar()
    given = sys.stdin.read() if prompt is None else prompt
    try:
        if not (model / "config.json").exists():
            raise ValueError(f"{model} is not the folder of a model: it has no config.json. A run keeps its model in RUN/model.")
        speaker = RetainForCausalLM.from_pretrained(model).eval()
        tokenizer = AutoTokenizer.from_pretrained(model) if (model / "tokenizer.json").exists() else None
        if tokens:
            numbers = [int(word) for word in given.split()]
        elif tokenizer is not None:
            numbers = tokenizer(given)["input_ids"]
        elif speaker.config.vocab_size < 256:
            raise ValueError(f"this model knows {speaker.config.vocab_size} tokens, not bytes; give their numbers with --tokens.")
        else:
            numbers = list(given.encode())
        if not numbers or not all(0 <= number < speaker.config.vocab_size for number in numbers):
            raise ValueError(f"the prompt must hold tokens from 0 to {speaker.config.vocab_size - 1}, got {numbers[:8]}.")
    except (ValueError, OSError) as error:
        typer.echo(f"retain generate: {error}", err=True)
        raise typer.Exit(2) from None
    torch.manual_seed(seed)
    settings = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    said: Any = speaker.generate(torch.tensor([numbers]), max_new_tokens=length, num_beams=beams, **settings)  # pyright: ignore
    new = said[0, len(numbers) :].tolist()
    if tokens:
        typer.echo(" ".join(map(str, new)))
    else:
        typer.echo(tokenizer.decode(new) if tokenizer is not None else bytes(number % 256 for number in new).decode(errors="replace"))
