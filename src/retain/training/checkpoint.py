"""Checkpoints: a folder that appears whole or not at all, and holds all that a training goes on from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from retain.blocks import BlockState
from retain.core.trees import placed, under
from retain.models import RetainCache, RetainForCausalLM
from retain.models.learning import Unfinished

from .lessons import Place
from .optimizer import optimizer_tensors, restore_optimizer
from .workers import Workers, like, whole

_PREFIX = "step-"
_UNFINISHED = "unfinished/"


class CheckpointError(ValueError):
    """A folder of checkpoints cannot be used as asked. The message says why, and what to do."""


@contextmanager
def whole_checkpoint(folder: Path, step: int, keep: int, workers: Workers) -> Generator[Path]:
    """A folder to write a checkpoint into, which becomes ``folder``/step-N when all of it is there; older ones beyond ``keep`` go after that.

    All processes enter it together. They find the folder made, and it is put in its place when the last of them is done.
    """
    target = folder / f"{_PREFIX}{step:08d}"
    beside = folder / f".unfinished-{step:08d}"
    if workers.first:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
    workers.together()
    yield beside
    workers.together()
    if workers.first:
        for file in beside.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        shutil.rmtree(target, ignore_errors=True)
        os.rename(beside, target)
        for old in checkpoints(folder)[:-keep]:
            shutil.rmtree(old)
    workers.together()


def save_training(beside: Path, learner: torch.optim.Optimizer, about: Mapping[str, Any], workers: Workers) -> None:
    """Write the optimizer and where the training stands into a checkpoint."""
    tensors = {name: whole(value) for name, value in optimizer_tensors(learner).items()} | {"random": torch.get_rng_state()}
    if workers.first:
        _write(tensors, beside / "training.safetensors")
        (beside / "training.json").write_text(json.dumps({**about, "processes": workers.count}, indent=1))


def load_training(path: Path, learner: torch.optim.Optimizer) -> dict[str, Any]:
    """Fill the optimizer from a checkpoint, and give back what ``save_training`` was told.

    Raises:
        CheckpointError: A file of it is missing or damaged.
    """
    tensors, about = _read(path)
    slots = [weight for group in learner.param_groups for weight in group["params"]]
    restore_optimizer(learner, {name: like(value, slots[int(name.split("/")[0])]) for name, value in tensors.items() if name != "random"})
    torch.set_rng_state(tensors["random"])
    return about


def save_checkpoint(
    folder: Path,
    model: RetainForCausalLM,
    learner: torch.optim.Optimizer,
    place: Place,
    log: dict[str, Any],
    carried: RetainCache,
    keep: int,
    workers: Workers,
) -> None:
    """Write ``folder``/step-N: the model as transformers saves it, the optimizer, where the training stands, and the memories that are carried along."""
    weights = {name: whole(weight) for name, weight in model.state_dict().items()}
    with whole_checkpoint(folder, place.step, keep, workers) as beside:
        if workers.first:
            model.save_pretrained(beside, state_dict=weights)
        save_training(beside, learner, {"place": asdict(place), "log": log, "seen": carried.seen}, workers)
        going = {f"{i}/{name}": value for i, state in enumerate(carried.states) for name, value in state.named_tensors()}
        if carried.unfinished is not None:
            going |= placed(dict(carried.unfinished.named_tensors()), _UNFINISHED)
        _write(going, beside / _carried(workers.rank))


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, the newest last.

    Examples:
        >>> checkpoints(Path("nowhere"))
        []
    """
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if (path / "training.json").exists()) if folder.is_dir() else []


def sweep(folder: Path) -> None:
    """Remove what a killed process left unfinished."""
    for path in folder.glob(".unfinished-*") if folder.is_dir() else ():
        shutil.rmtree(path, ignore_errors=True)


def load_checkpoint(
    path: Path, model: RetainForCausalLM, learner: torch.optim.Optimizer, workers: Workers
) -> tuple[Place, dict[str, Any], RetainCache]:
    """Fill model and optimizer from a checkpoint, and give back where the training stands.

    Raises:
        CheckpointError: A file of it is missing or damaged, or it is of another model or of another number of processes with memories to carry along.
    """
    _, about = _read(path)
    with legible(path):
        weights = load_file(path / "model.safetensors")
        carried = load_file(path / _carried(workers.rank)) if (path / _carried(workers.rank)).exists() else {}
    if carried and about["processes"] != workers.count:
        raise CheckpointError(f"{path} holds memories of {about['processes']} processes and there are {workers.count}; go on with as many.")
    own = {name: weight for name, weight in model.state_dict(keep_vars=True).items() if name in weights}
    missing = [name for name in model.state_dict() if name not in weights and name not in model.all_tied_weights_keys]
    if missing or len(own) != len(weights):
        raise CheckpointError(f"the checkpoint {path} is of another model: it lacks {missing} and has {sorted(weights.keys() - own.keys())}.")
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(like(weights[name], weight))
    load_training(path, learner)
    waiting, layers = under(carried, _UNFINISHED), range(len({name.split("/")[0] for name in carried if not name.startswith(_UNFINISHED)}))
    states = tuple(BlockState.of(under(carried, f"{i}/")).map(lambda t: t.to(workers.device)) for i in layers)
    unfinished = Unfinished.of(waiting).map(lambda t: t.to(workers.device)) if waiting else None
    cache = RetainCache(states, about["seen"], unfinished)
    return Place(**about["place"]), about["log"], cache


def _carried(rank: int) -> str:
    return f"carried-{rank}.safetensors"


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with legible(path):
        return load_file(path / "training.safetensors"), json.loads((path / "training.json").read_text(encoding="utf-8"))


@contextmanager
def legible(path: Path) -> Generator[None]:
    """Where what cannot be read is a damaged checkpoint."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"the checkpoint {path} cannot be read ({error}). Cure: remove that folder; the training goes on from the one before."
        ) from None


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors, wherever they lie, into a file of a checkpoint."""
    save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, path)
