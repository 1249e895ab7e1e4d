"""Training memories with ``transformers.Trainer``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from .attach import branches_of, memory_parameters
from .store import memory_weights, save, saved_weights


class MemoryTrainer(Trainer):
    """A ``Trainer`` whose checkpoints hold the memories alone, beside what it needs to go on: the base is not written again and again.

    ``from retain.retrofit.trainer import MemoryTrainer``; ``retain.retrofit`` does without it, since a ``Trainer`` brings much along. It takes the arguments of
    ``transformers.Trainer``. In a checkpoint lie the two files of ``retain.retrofit.save``, so that ``retain.retrofit.load`` gives a base what was learnt up to
    there. Resuming from one and loading the best want a model with the same memories attached, whose weights are whole on each process.

    Raises:
        ValueError: The model has no memories, or something else in it is to be trained, too, and would be missing from the checkpoints.

    Examples:
        >>> MemoryTrainer(nn.Linear(1, 1))
        Traceback (most recent call last):
        ValueError: the model has no memories. Cure: attach(model, MemoryConfig(...)), or transformers.Trainer.
    """

    def __init__(self, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        if not branches_of(model):
            raise ValueError("the model has no memories. Cure: attach(model, MemoryConfig(...)), or transformers.Trainer.")
        ours = {id(weight) for weight in memory_parameters(model)}
        others = [name for name, weight in model.named_parameters() if weight.requires_grad and id(weight) not in ours]
        if others:
            raise ValueError(
                f"checkpoints hold memories alone, and {len(others)} other weights are to be trained, such as {others[0]}. Cure: requires_grad_(False) for them, or "
                "transformers.Trainer, whose checkpoints hold the whole model."
            )
        super().__init__(model, *args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save:
            return
        assert isinstance(self.model, nn.Module)
        folder = Path(output_dir or str(self.args.output_dir))
        save(self.model, folder, weights=_gathered(memory_weights(self.model), state_dict or {}))
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        own = self.model if model is None else model
        assert isinstance(own, nn.Module)
        found, read = memory_weights(own), saved_weights(resume_from_checkpoint)
        if {name: tensor.shape for name, tensor in read.items()} != {name: tensor.shape for name, tensor in found.items()}:
            raise ValueError(
                f"{resume_from_checkpoint} holds memories other than the model's. Cure: attach with the configuration that it was trained with."
            )
        with torch.no_grad():
            for name, tensor in found.items():
                tensor.copy_(read[name])

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint is not None:
            self._load_from_checkpoint(self.state.best_model_checkpoint)


def _gathered(own: dict[str, Tensor], given: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of memories as the trainer gives them, by their names in the whole model; those that it does not give as they are."""
    return {name: next((tensor for key, tensor in given.items() if f".{key}".endswith(f".{name}")), weight) for name, weight in own.items()}
