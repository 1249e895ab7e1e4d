"""Memories trained by ``transformers.Trainer``: what a checkpoint holds, and that going on from one is as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainingArguments

from retain.core.errors import NotAStateFile
from retain.retrofit import disable_memory, load, memory_hash, memory_weights, saved_weights
from retain.retrofit.store import CONFIG, WEIGHTS
from retain.retrofit.trainer import MemoryTrainer

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


def test_a_checkpoint_holds_memories_alone_and_gives_them_to_a_base(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, eval_strategy="steps", eval_steps=2, load_best_model_at_end=True)
    trainer.train()
    known = {CONFIG, WEIGHTS, "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
    assert {file.name for file in (tmp_path / "checkpoint-4").iterdir()} == known
    model: Any = trainer.model
    held, best = memory_weights(model), load(base(dtype=torch.float32), str(trainer.state.best_model_checkpoint))
    assert memory_hash(best) == memory_hash(model)
    assert all(torch.equal(tensor, held[name]) for name, tensor in memory_weights(best).items())
    model.eval()
    with disable_memory(model):
        assert torch.equal(model(words(2, 6)).logits, base(dtype=torch.float32)(words(2, 6)).logits)


def test_weights_that_the_trainer_gathered_are_those_that_are_saved(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    given = {f"module.{name}": tensor + 1 for name, tensor in trainer.model.state_dict().items()}  # pyright: ignore[reportOptionalMemberAccess]
    trainer._save(str(tmp_path / "gathered"), state_dict=given)
    own = memory_weights(trainer.model)  # pyright: ignore[reportArgumentType]
    found = saved_weights(tmp_path / "gathered")
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], tensor + 1) for name, tensor in own.items())


def test_what_would_be_lost_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no memories"):
        MemoryTrainer(base(dtype=torch.float32))
    model = shut(base(dtype=torch.float32))
    model.lm_head.requires_grad_(True)
    with pytest.raises(ValueError, match=r"1 other weights are to be trained, such as lm_head\.weight"):
        MemoryTrainer(model)
    trainer = _trainer(tmp_path)
    before = _weights(trainer)
    with pytest.raises(NotAStateFile, match=f"has no {WEIGHTS}"):
        trainer._load_from_checkpoint(str(tmp_path))
    other = MemoryTrainer(shut(base(dtype=torch.float32), layers=(1,)), TrainingArguments(str(tmp_path), report_to="none", use_cpu=True))
    other.save_model(str(tmp_path / "other"))
    with pytest.raises(ValueError, match="other than the model's"):
        trainer._load_from_checkpoint(str(tmp_path / "other"))
    assert all(torch.equal(weight, before[name]) for name, weight in _weights(trainer).items())
