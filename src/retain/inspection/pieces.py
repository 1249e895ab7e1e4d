"""A text as the tokens of a model, and each token's piece of it."""

from __future__ import annotations

import codecs
from pathlib import Path

from transformers import AutoTokenizer

from retain.models import RetainForCausalLM


def in_pieces(model: RetainForCausalLM, folder: Path, text: str) -> tuple[list[int], list[str]]:
    """The tokens by which a model reads a text, as ``retain generate`` has them, and the piece of the text that each stands for.

    A model without a tokenizer of its own reads bytes. A letter of several bytes is the piece of the last one; the others have an empty one.

    Raises:
        ValueError: The text is empty, or the model reads neither bytes nor by a tokenizer.

    Examples:
        >>> from retain.models import RetainConfig
        >>> model = RetainForCausalLM(RetainConfig(vocab_size=256, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, block="lmm"))
        >>> in_pieces(model, Path("nowhere"), "né")
        ([110, 195, 169], ['n', '', 'é'])
    """
    if not text:
        raise ValueError("there is nothing in the text. Cure: a file with something in it.")
    if (folder / "tokenizer.json").exists():
        found = AutoTokenizer.from_pretrained(folder)(text, return_offsets_mapping=True)
        return list(found["input_ids"]), pieces_of(text, found["offset_mapping"])
    if model.config.vocab_size < 256:
        raise ValueError(f"this model knows {model.config.vocab_size} tokens, not bytes, and its folder has no tokenizer.json that would tell them.")
    decoder, data = codecs.getincrementaldecoder("utf-8")(), text.encode()
    return list(data), [decoder.decode(data[i : i + 1]) for i in range(len(data))]


def pieces_of(text: str, spans: list[tuple[int, int]]) -> list[str]:
    """The pieces between the ends of tokens: together they are the text, but for what lies behind the last one.

    Examples:
        >>> pieces_of("a boat", [(0, 0), (0, 1), (2, 6)])
        ['', 'a', ' boat']
    """
    pieces, done = [], 0
    for _, end in spans:
        pieces.append(text[done : max(done, end)])
        done = max(done, end)
    return pieces
