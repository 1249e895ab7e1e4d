"""Small retrofits, and a script that trains some: `python -m tests.unit.training.retrofits BASE FOLDER KIND,KIND [SLEEP]`, each in a folder of its kind."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from retain.retrofit import MemoryConfig, saved_weights
from retain.tasks import Followed, Letters, Pairs, Repeated
from retain.training import Lesson, Schedule, Watch
from retain.training.retrofit import Fitting, PageReading, Restraint, RetrofitRun, RetrofitTrainer

TITANS: dict[str, Any] = {
    "preset": "titans",
    "rule": {"update_every": 8, "expansion": 1.5},
    "heads": 2,
    "head_dim": 4,
    "projections": {"conv": 1},
    "gates": {"lr": 0.1, "forget": 0.01},
}
DELTA: dict[str, Any] = {
    "preset": "gated_delta_net",
    "heads": 2,
    "head_dim": 8,
    "projections": {"conv": 4, "activation": None, "start": "recall"},
    "output": {"norm": None, "gate": None},
    "gates": {"curve": "hard", "lr": 0.9, "forget": 1e-3},
}
STEEP = MemoryConfig(layers=(0, 2), memory=TITANS, strength=0.5)
LATE = MemoryConfig(layers=(2,), memory=DELTA, values="embedding", features="centred", refine=0, strength=0.5)
WATCH = Watch(every=1, save_every=2)
PAIRS = Pairs(facts=3, asked=2, keys=Letters(2))
SAME = Repeated("a")
"""Wherever it is begun, it is the same."""


def small_base(folder: Path, template: str | None = None, **sizes: Any) -> Path:
    """A model of bytes with random weights, and its tokenizer, in a folder."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate([*letters, "<s>", "<|im_start|>", "<|im_end|>"])}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special: dict[str, Any] = {"bos_token": "<s>", "eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **special).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"vocab_size": 259, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, **sizes}
    LlamaForCausalLM(LlamaConfig(initializer_range=0.3, max_position_embeddings=512, eos_token_id=258, **shape)).save_pretrained(folder)
    return folder


def run_of(kind: str, base: Path) -> RetrofitRun:
    lessons = (
        Lesson(tasks=(PAIRS,), steps=3),
        Lesson(tasks=(PAIRS, Followed(pages=PAIRS, haystack=SAME, length=9, part=5)), steps=2, write_cost=0.5),
    )
    reading = {
        "plain": PageReading(rows=4),
        "late": PageReading(rows=4, pool=6, asked=1),
        "accumulated": PageReading(rows=4, accumulate=2),
        "replicas": PageReading(rows=4),
        "shards": PageReading(rows=4, across="shards"),
        "coarse": PageReading(rows=4, precision="bf16", checkpointing=True, pool=4),
    }[kind]
    late = kind in ("late", "coarse")
    return RetrofitRun(
        model=Fitting(base=str(base), memory=LATE if late else STEEP, start="recall" if late else "plain", calibrated=4),
        lessons=lessons if kind in ("plain", "late", "coarse") else (Lesson(tasks=(PAIRS,), steps=3),),
        restraint=Restraint(text=SAME, rows=2, length=8, write_cost=0.3, margin=0.5),
        schedule=Schedule(lr=1e-2, gate_lr=1e-2, warm_up=2),
        reading=reading,
        watch=WATCH,
        seed=1,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return saved_weights(folder / "model")


if __name__ == "__main__":
    torch.set_num_threads(1)
    base, place, kinds, *slow = sys.argv[1:]
    for kind in kinds.split(","):
        RetrofitTrainer(run_of(kind, Path(base)), Path(place, kind)).fit(tick=lambda *_: time.sleep(float(slow[0]) if slow else 0.0))
