"""Training memories with ``transformers.Trainer``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor, nn
from transformers import Trainer

from retain.storage import write_whole

from .attach import branches_of, memory_parameters

WEIGHTS = "memory_model.safetensors"


class MemoryTrainer(Trainer):
    """A ``Trainer`` whose checkpoints hold the memories alone, beside what it needs to go on: the base is not written again and again.

    Takes the arguments of ``transformers.Trainer``. Resuming from a checkpoint and loading the best one want a model with the same memories attached.

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
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in _memories(self.model).items()}
        write_whole(folder / WEIGHTS, save(tensors))
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        found, place = _memories(self.model if model is None else model), Path(resume_from_checkpoint) / WEIGHTS
        if not place.is_file():
            raise ValueError(f"{resume_from_checkpoint} is no checkpoint of memories: it has no {WEIGHTS}.")
        read = load(place.read_bytes())
        if {name: tensor.shape for name, tensor in read.items()} != {name: tensor.shape for name, tensor in found.items()}:
            raise ValueError(f"{place} holds memories other than the model's. Cure: attach with the configuration that it was trained with.")
        for name, tensor in found.items():
            tensor.detach().copy_(read[name])

    def _load_best_model(self) -> None:
        if self.state.best_model_checkpoint is not None:
            self._load_from_checkpoint(self.state.best_model_checkpoint)


def _memories(model: Any) -> dict[str, Tensor]:
    """All that memories hold, by branch, whatever the model is wrapped in."""
    return {
        f"{number}.{name}": tensor for number, branch in enumerate(branches_of(model)) for name, tensor in branch.state_dict(keep_vars=True).items()
    }
