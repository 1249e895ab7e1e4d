"""Training that can stop between two steps and go on as if it had not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .folder import RunFolder
from .model import ByteModel


class Paused(Exception):
    """The run was asked to stop, and everything that it had finished is in its folder."""


@dataclass
class Pause:
    """A wish to stop, looked at between steps, where nothing is half done."""

    wanted: bool = False

    def check(self) -> None:
        """Stop here if that is wanted.

        Raises:
            Paused: It is.
        """
        if self.wanted:
            raise Paused


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a model is trained: AdamW with a warm-up and a cosine down to a twentieth.

    Args:
        steps: Updates in all.
        lr: The highest learning rate.
        gate_lr: The same for the memories' gates, which also have no weight decay.
        warm_up: Updates until the learning rate is reached.
        group: Updates that belong together; training stops between groups only.
    """

    steps: int
    lr: float = 3e-3
    gate_lr: float = 1.5e-2
    warm_up: int = 30
    group: int = 1

    def share(self, step: int) -> float:
        """The share of the learning rate that the update ``step`` uses."""
        cosine = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return min(1.0, (step + 1) / self.warm_up) * cosine


@dataclass(frozen=True)
class Trained:
    """What a training came to.

    Args:
        seconds: How long it took, over all runs that it was spread over.
        losses: The loss of each step, averaged over the tenths of the training.
    """

    seconds: float
    losses: list[float] = field(default_factory=list)


def optimizer(model: ByteModel, schedule: Schedule) -> torch.optim.AdamW:
    """AdamW in which the gates of the memories learn at their own rate."""
    gates = [p for name, p in model.named_parameters() if ".gates." in name]
    others = [p for name, p in model.named_parameters() if ".gates." not in name]
    groups = [{"params": others, "lr": schedule.lr, "weight_decay": 0.01}, {"params": gates, "lr": schedule.gate_lr, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def train(
    model: ByteModel,
    loss_of_step: Callable[[int], Tensor],
    schedule: Schedule,
    folder: RunFolder,
    name: str,
    pause: Pause,
    tick: Callable[[float], None] = lambda loss: None,
) -> Trained:
    """Train a model, from where an earlier run of the same name stopped if there is one, and leave it in the folder.

    Args:
        model: The model; its weights are overwritten.
        loss_of_step: The loss of an update by its number. It must depend on nothing else but the model, within a group of steps.
        schedule: How to train.
        folder: Where the model goes, and where a paused training waits.
        name: The name of the model there.
        pause: Looked at between groups of steps.
        tick: Told the loss of each update; on going on, nan for those that were done before.

    Raises:
        Paused: Training was stopped; the folder holds what goes on from here.
    """
    learner = optimizer(model, schedule)
    losses = _resume(model, learner, folder, name)
    spent = losses.pop() if losses else 0.0
    for _ in losses:
        tick(math.nan)
    begin = time.perf_counter()
    model.train()
    for step in range(len(losses), schedule.steps):
        if step % schedule.group == 0 and pause.wanted:
            _set_aside(model, learner, folder, name, [*losses, spent + time.perf_counter() - begin])
        if step % schedule.group == 0:
            pause.check()
        for group, lr in zip(learner.param_groups, (schedule.lr, schedule.gate_lr), strict=True):
            group["lr"] = lr * schedule.share(step)
        loss = loss_of_step(step)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"training {name} went astray: the loss is {value} at step {step}. Cure: another --seed, or a lower Gates.rate.")
        learner.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        learner.step()
        losses.append(value)
        tick(value)
    model.eval()
    folder.save_tensors(name, model.state_dict(), {"steps": str(schedule.steps)})
    folder.drop(f"{name}-training")
    width = max(1, schedule.steps // 10)
    tenths = [sum(part) / len(part) for part in (losses[i : i + width] for i in range(0, len(losses), width))]
    return Trained(round(spent + time.perf_counter() - begin, 1), [round(loss, 4) for loss in tenths])


def restore(model: ByteModel, folder: RunFolder, name: str) -> None:
    """Give a model the weights that ``train`` left under ``name``.

    Raises:
        FileNotFoundError: There are none.
    """
    found = folder.load_tensors(name)
    if found is None:
        raise FileNotFoundError(f"{folder.path} says that {name} is trained but holds no {name}.safetensors. Cure: start anew with --fresh.")
    model.load_state_dict(found[0])
    model.eval()


def _set_aside(model: ByteModel, learner: torch.optim.AdamW, folder: RunFolder, name: str, losses: list[float]) -> None:
    tensors = {f"model/{key}": value for key, value in model.state_dict().items()}
    for i, slot in learner.state_dict()["state"].items():
        tensors |= {f"learner/{i}/{key}": value for key, value in slot.items()}
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    folder.save_tensors(f"{name}-training", tensors, {})


def _resume(model: ByteModel, learner: torch.optim.AdamW, folder: RunFolder, name: str) -> list[float]:
    """The losses of the steps that are done already and, behind them, the seconds that they took; empty if there are none."""
    found = folder.load_tensors(f"{name}-training")
    if found is None:
        return []
    tensors = found[0]
    model.load_state_dict({key.removeprefix("model/"): value for key, value in tensors.items() if key.startswith("model/")})
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("learner/"):
            _, i, part = key.split("/")
            slots.setdefault(int(i), {})[part] = value
    learner.load_state_dict({**learner.state_dict(), "state": slots})
    return tensors["losses"].tolist()
