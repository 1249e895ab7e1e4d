"""Before anything is trained: is the place that a question asks for the one whose key lies nearest to its query? By layer, and by how stretches begin.

python -m recipes.retrofit.places --base .venv/smollm2 --out recipes/retrofit
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from retain.retrofit import opening
from retain.tasks import TRAINED_FORMATS, Hosted, Page, Pairs, Vocabulary

from ..evidence import CONSOLE, keep

logging.disable_progress_bar()
LAYERS = (6, 14, 20, 23, 26)
LAGS = {"0.3, 1": (0.3, 1.0), "1, 1": (1.0, 1.0), "1, 1, 0.3, 0.3": (1.0, 1.0, 0.3, 0.3), "1, 0.5": (1.0, 0.5)}
HEADS = 9


def main(
    base: Annotated[str, typer.Option(help="Folder of the pretrained model.")],
    out: Annotated[Path, typer.Option(help="Folder for places.json.")],
) -> None:
    """Random maps, random kernels of these sizes, centred features with the first token left out; 8 pages of 31 pairs, 6 questions each."""
    begun, tokenizer = time.perf_counter(), AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base).eval()
    codec = Hosted(tokenizer)
    known, held_out = Vocabulary.of(codec).split()
    rows = []
    for begins, text in (("the first token", ""), ("the first token and a line's end", "\n")):
        start = torch.tensor(opening(tokenizer, text))
        measured = [_features(model, start, page.text) for page in _pages(known, codec, range(1000, 1012))]
        asked = [
            (page, _features(model, start, page.text), [_features(model, start, q.prompt) for q in page.questions])
            for page in _pages(held_out, codec, range(8))
        ]
        for layer in LAYERS:
            seen = torch.cat([features[layer][len(start) :] for features in measured])
            mean = seen.mean(0)
            for name, lags in LAGS.items():
                right = [
                    hit for page, text_of, prompts in asked for hit in _hits(page, text_of[layer] - mean, [p[layer] - mean for p in prompts], lags)
                ]
                rows.append({"begins": begins, "layer": layer, "lags": name, "right": sum(right), "asked": len(right)})
                CONSOLE.print(rows[-1])
    keep(out / "places.json", {"rows": rows}, begun)


def _pages(words: Vocabulary, codec: Hosted, seeds: range) -> list[Page]:
    return Pairs(facts=31, asked=6, formats=TRAINED_FORMATS[:1], keys=words, codec=codec).batch(seeds)


@torch.no_grad()
def _features(model: Any, start: Tensor, tokens: Tensor) -> dict[int, Tensor]:
    """The normalised inputs of the layers [time, dim]."""
    states = model(torch.cat([start, tokens])[None], output_hidden_states=True, use_cache=False).hidden_states
    return {layer: model.model.layers[layer].input_layernorm(states[layer][0]) for layer in LAYERS}


def _hits(page: Page, text: Tensor, prompts: list[Tensor], lags: tuple[float, ...]) -> list[bool]:
    """For each question, whether the key at its answer's place has the largest product with its query."""
    dice = torch.Generator().manual_seed(0)
    projection = torch.randn(text.shape[1], text.shape[1], generator=dice) / text.shape[1] ** 0.5
    kernel = torch.randn(len(lags), text.shape[1], generator=dice) * torch.tensor(lags)[:, None]
    keys = _mixed(text, projection, kernel, first=1)
    found = []
    for question, prompt in zip(page.questions, prompts, strict=True):
        query = _mixed(prompt, projection, kernel, first=0)[-1]
        place = len(text) - int(question.facts["distance"])
        found.append(int((keys * query).sum((-1, -2)).argmax()) == place)
    return found


def _mixed(features: Tensor, projection: Tensor, kernel: Tensor, first: int) -> Tensor:
    """Tokens from ``first`` places back on, mapped, mixed channel by channel, and of length one a head [time, heads, width]; the first token is left out."""
    mapped = torch.cat([torch.zeros_like(features[:1]), features[1:]]) @ projection
    mixed = torch.zeros_like(mapped)
    for j, weights in enumerate(kernel, first):
        mixed[j:] += weights * mapped[: len(mapped) - j]
    return F.normalize(mixed.unflatten(-1, (HEADS, -1)), dim=-1)


if __name__ == "__main__":
    typer.run(main)
