"""Memories trained by ``transformers.Trainer``: what a checkpoint holds, and that going on from one is as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainingArguments

from retain.retrofit import branches_of, disable_memory
from retain.retrofit.trainer import WEIGHTS, MemoryTrainer

from .models import base, shut, words

ROWS = [{"input_ids": row.tolist(), "labels": row.tolist()} for row in words(8, 10)]


def _trainer(folder: Path, **arguments: Any) -> MemoryTrainer:
    settings = {
        "output_dir": str(folder),
        "max_steps": 4,
        "save_steps": 2,
        "per_device_train_batch_size": 2,
        "learning_rate": 3e-2,
        "report_to": "none",
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "logging_steps": 1,
        "seed": 3,
    }
    model = shut(base(dtype=torch.float32), strength=0.1, layers=(0, 2))
    return MemoryTrainer(model, TrainingArguments(**{**settings, **arguments}), train_dataset=ROWS, eval_dataset=ROWS[:2])  # pyright: ignore[reportArgumentType]


def _weights(trainer: MemoryTrainer) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}  # pyright: ignore[reportOptionalMemberAccess]


def _losses(trainer: MemoryTrainer) -> list[float]:
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_going_on_from_a_checkpoint_is_going_on(tmp_path: Path, checkpointing: bool) -> None:
    whole = _trainer(tmp_path / "whole", activation_checkpointing=checkpointing)
    before = _weights(whole)
    whole.train()
    again = _trainer(tmp_path / "again", activation_checkpointing=checkpointing)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert _losses(again) == _losses(whole)
    assert len(_losses(whole)) == 4
    found = _weights(again)
    for name, weight in _weights(whole).items():
        assert torch.equal(found[name], weight), name
        assert torch.equal(weight, before[name]) == (".memory." not in name), name


def test_a_checkpoint_holds_memories_alone(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, eval_strategy="steps", eval_steps=2, load_best_model_at_end=True)
    trainer.train()
    folder = tmp_path / "checkpoint-4"
    known = {WEIGHTS, "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
    assert {file.name for file in folder.iterdir()} == known
    model: Any = trainer.model
    held = {f"{i}.{name}": tensor for i, branch in enumerate(branches_of(model)) for name, tensor in branch.state_dict().items()}
    best = load_file(Path(str(trainer.state.best_model_checkpoint)) / WEIGHTS)
    assert best.keys() == held.keys()
    assert all(torch.equal(best[name], tensor) for name, tensor in held.items())
    model.eval()
    with disable_memory(model):
        assert torch.equal(model(words(2, 6)).logits, base(dtype=torch.float32)(words(2, 6)).logits)


def test_what_would_be_lost_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no memories"):
        MemoryTrainer(base(dtype=torch.float32))
    model = shut(base(dtype=torch.float32))
    model.lm_head.requires_grad_(True)
    with pytest.raises(ValueError, match=r"1 other weights are to be trained, such as lm_head\.weight"):
        MemoryTrainer(model)
    trainer = _trainer(tmp_path)
    before = _weights(trainer)
    with pytest.raises(ValueError, match="no checkpoint of memories"):
        trainer._load_from_checkpoint(str(tmp_path))
    other = MemoryTrainer(shut(base(dtype=torch.float32), layers=(1,)), TrainingArguments(str(tmp_path), report_to="none", use_cpu=True))
    other.save_model(str(tmp_path / "other"))
    with pytest.raises(ValueError, match="other than the model's"):
        trainer._load_from_checkpoint(str(tmp_path / "other"))
    assert all(torch.equal(weight, before[name]) for name, weight in _weights(trainer).items())
