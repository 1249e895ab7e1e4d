"""Small runs, and a script that trains some, each in FOLDER/KIND: `python -m tests.unit.training.runs FOLDER KIND,KIND [SLEEP]`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

from retain.models import RetainForCausalLM
from retain.tasks import MQAR, Parity
from retain.training import Lesson, Reading, Run, Schedule, Trainer, Watch, read_metrics

SMALL: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "window": 4,
    "block": ["mag", "lmm"],
    "persistent_tokens": 1,
    "memory": {"rule": {"expansion": 1.5, "update_every": 4}, "gates": {"lr": 0.2}},
    "write_cost": 0.1,
}
WATCH = Watch(every=1, save_every=3)


def run_of(kind: str) -> Run:
    parity, recall = Parity(shortest=3, longest=9), MQAR(pairs=2, vocabulary=8, length=17, gap=2)
    lessons = (Lesson(tasks=(parity,), steps=4), Lesson(tasks=(recall, parity), steps=4))
    schedule = Schedule(warm_up=2)
    readings = {
        "plain": Reading(rows=4),
        "accumulated": Reading(rows=4, accumulate=2),
        "segments": Reading(rows=4, segment=6),
        "shards": Reading(rows=4, across="shards"),
        "levels": Reading(rows=4, segment=6),
        "coarse": Reading(rows=4, precision="bf16", checkpointing=True),
    }
    if kind in ("segments", "levels"):
        lessons = (Lesson(tasks=(recall,), steps=8),)
    model = (
        {**SMALL, "block": "hope", "levels": [{"every": 4, "options": {"lr": 0.1}}, {"every": 8, "optimizer": "Momentum"}]}
        if kind == "levels"
        else SMALL
    )
    return Run(model=model, lessons=lessons, schedule=schedule, reading=readings[kind], watch=WATCH, seed=1)


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(folder)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return RetainForCausalLM.from_pretrained(folder / "model").state_dict()


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, kinds, *slow = sys.argv[1:]
    for kind in kinds.split(","):
        Trainer(run_of(kind), Path(place) / kind).fit(tick=lambda *_: time.sleep(float(slow[0]) if slow else 0.0))
