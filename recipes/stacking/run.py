"""A pretrained model whose own MLPs go on learning while it reads: SmolLM2 on source code, piece by piece.

python -m recipes.stacking.run --model FOLDER --out recipes/stacking
"""

from __future__ import annotations

import math
import sysconfig
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from retain.layers import Level
from retain.models import StackedLM

from ..evidence import CONSOLE, keep

PIECE, PIECES, TUNED_ON = 256, 12, 6
TUNED = "fractions.py"
ASKED = ("argparse.py", "tarfile.py", "turtle.py")
RATES = (3e-5, 1e-4, 3e-4)
LAYERS = 30
READINGS: dict[str, int | None] = {"still": None, "one level": 1, "two levels": 4}
"""Pieces between two updates of the pretrained MLPs of the lower half of the layers; those of the upper half learn after each piece."""


def stacked(folder: Path, slow: int, rate: float) -> StackedLM:
    """The model with a level in each layer, all of which start as they were trained."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    periods = [PIECE * slow] * (LAYERS // 2) + [PIECE] * (LAYERS - LAYERS // 2)
    return StackedLM(model, [[Level(every=every, options={"lr": rate}, around="nothing")] for every in periods])


def bits(model: StackedLM, words: Tensor, learns: bool) -> list[float]:
    """Bits a token of each piece; attention sees a piece by itself, so only weights reach over from one to the next."""
    state, found = model.start(1), []
    for piece in words.split(PIECE):
        asked = {path: weight.detach().requires_grad_(learns) for path, weight in model.weights(state).items()}
        state = {path: asked.get(path, part.detach()) for path, part in state.items()}
        with torch.set_grad_enabled(learns):
            scores = model(piece[None], state=state).logits[0, :-1]
            loss = F.cross_entropy(scores, piece[1:], reduction="sum")
        if learns:
            gradients = torch.autograd.grad(loss, list(asked.values()))
            with torch.no_grad():
                state = model.learn(state, dict(zip(asked, gradients, strict=True)), torch.tensor([len(piece)]))
        found.append(float(loss.detach()) / math.log(2) / (len(piece) - 1))
    return found


def main(
    model: Annotated[Path, typer.Option(help="Folder of SmolLM2-135M-Instruct as transformers saves it.")],
    out: Annotated[Path, typer.Option(help="Where stacking.json goes.")],
) -> None:
    begun = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(model)

    def text(name: str, pieces: int = PIECES) -> Tensor:
        source = (Path(sysconfig.get_paths()["stdlib"]) / name).read_text(encoding="utf-8")
        return torch.tensor(tokenizer(source)["input_ids"][: PIECE * pieces])

    with torch.no_grad():
        plain, words = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval(), text(TUNED, 1)
        before = plain(words[None]).logits
        whole = stacked(model, 1, RATES[0])
        same = torch.equal(whole(words[None], state=whole.start(1)).logits, before)
        beside = StackedLM(plain, (Level(every=PIECE), Level(every=4 * PIECE, around="nothing")))
        same_beside = torch.equal(beside(words[None], state=beside.start(1)).logits, before)
    CONSOLE.print(f"says what it said before: {same}; with levels beside its own: {same_beside}")
    tuned: dict[str, dict[str, float]] = {}
    results: dict[str, Any] = {"same_at_the_start": {"its own MLPs": same, "levels beside them": same_beside}, "tuned": tuned, "bits": {}}
    for name, slow in READINGS.items():
        rate = 0.0
        if slow is not None:
            tuned[name] = {str(r): sum(bits(stacked(model, slow, r), text(TUNED, TUNED_ON), True)) for r in RATES}
            rate = float(min(tuned[name], key=lambda r: tuned[name][r]))
        for asked in ASKED:
            found = bits(stacked(model, slow or 1, rate), text(asked), slow is not None)
            results["bits"].setdefault(name, {})[asked] = found
            CONSOLE.print(f"{name}, {asked}, rate {rate}: {sum(found) / len(found):.3f} bits a token")
    keep(out / "stacking.json", results, begun)


if __name__ == "__main__":
    typer.run(main)
