"""The loop: it may be stopped or killed at any moment, and goes on as if nothing had happened."""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

from retain.storage import write_whole

from .checkpoint import CheckpointError, sweep
from .describe import described, differences
from .lessons import Place
from .metrics import Metrics
from .run import Lesson, Reading, Schedule, Watch
from .workers import Workers, whole


class Stop(Exception):
    """The training was asked to stop, and everything that it had done is in its folder."""


@runtime_checkable
class Plan(Protocol):
    """What every run says, whatever it trains."""

    @property
    def lessons(self) -> tuple[Lesson[Any], ...]: ...
    @property
    def schedule(self) -> Schedule: ...
    @property
    def reading(self) -> Reading: ...
    @property
    def watch(self) -> Watch: ...
    @property
    def seed(self) -> int: ...
    @property
    def steps(self) -> int: ...


P = TypeVar("P", bound=Plan)
M = TypeVar("M", bound=nn.Module)
Tick = Callable[[Place, float, float], None]


class AbstractTraining(ABC, Generic[P, M]):
    """A training in a folder, from where an earlier one stopped if there is one.

    The folder holds ``run.json``, the run in full; ``metrics.jsonl``; ``checkpoints/step-N``; and in the end ``model``. A final class says what an update
    is, and what is kept.

    Args:
        run: What to do.
        folder: Where; a folder of another run is refused.
        device: On what; a GPU where there is one unless given.

    Raises:
        CheckpointError: The folder holds a run with other settings.
        ValueError: There is no such device.
    """

    model: M
    learner: torch.optim.Optimizer

    def __init__(self, run: P, folder: Path, device: Literal["cuda", "cpu"] | None = None) -> None:
        self.run, self.folder, self.workers = run, folder, Workers.present(device)
        plan = json.loads(json.dumps(described(run)))
        if self.workers.first:
            folder.mkdir(parents=True, exist_ok=True)
            kept = folder / "run.json"
            if kept.exists():
                differ = differences(json.loads(kept.read_text(encoding="utf-8")), plan)
                if differ:
                    raise CheckpointError(f"{folder} holds another run ({'; '.join(differ[:5])}). Cure: repeat its settings, or name another folder.")
            else:
                write_whole(kept, json.dumps(plan, indent=1).encode(), mode=0o644)
            sweep(folder / "checkpoints")
        self.workers.together()
        torch.manual_seed(run.seed)
        self.place = Place()
        self.log: dict[str, Any] = {"losses": [], "right": [], "seconds": 0.0}

    @abstractmethod
    def _update(self) -> dict[str, float]:
        """One update: what came of it by name, ``loss``, the share ``right`` and the ``norm`` of the gradients among it."""

    @abstractmethod
    def _load(self) -> None:
        """Go on from the newest checkpoint, if there is one."""

    @abstractmethod
    def _save(self, seconds: float) -> None:
        """Write a checkpoint."""

    @abstractmethod
    def _keep(self) -> None:
        """Put the trained model beside the checkpoints."""

    def fit(self, tick: Tick = lambda place, loss, right: None, wanted: Callable[[], bool] = lambda: False) -> M:
        """Train to the end; the model comes back in evaluation mode.

        Args:
            tick: Told where the training stands, the loss and the share of right answers, after each update.
            wanted: Asked between updates whether to stop.

        Raises:
            Stop: That was wanted. The folder holds what goes on from here.
            FloatingPointError: The loss is not finite.
        """
        self._load()
        self.workers.together()
        metrics = Metrics(self.folder, self.place.step, self.run.watch.to) if self.workers.first else None
        begin, spent = time.perf_counter(), self.log["seconds"]
        while self.place.lesson < len(self.run.lessons):
            if wanted():
                self._save(spent + time.perf_counter() - begin)
                raise Stop
            for group in self.learner.param_groups:
                group["lr"] = group["peak"] * self._share(self.place.step)
            came = self._update()
            self._advance(came["loss"], came["right"])
            step = self.place.step
            if self.workers.first and metrics is not None and (step % self.run.watch.every == 0 or self.place.lesson == len(self.run.lessons)):
                numbers = came | {"lr": self.run.schedule.lr * self._share(step - 1), "lesson": float(self.place.lesson)}
                metrics.write(step, numbers | {"seconds": round(spent + time.perf_counter() - begin, 3)})
            if step % self.run.watch.save_every == 0:
                self._save(spent + time.perf_counter() - begin)
            tick(self.place, came["loss"], came["right"])
        self._save(spent + time.perf_counter() - begin)
        if self.workers.first:
            self._keep()
        self.workers.together()
        return self.model.eval()

    def _step(self, loss: float) -> float:
        """Let the optimizer take its step with the gradients as they are, if they are sound; gives back their norm."""
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        norm = float(whole(nn.utils.clip_grad_norm_(weights, self.run.schedule.clip)))
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise FloatingPointError(
                f"training went astray at step {self.place.step}: the loss is {loss} and the gradients' norm {norm}. "
                f"The last checkpoint is sound. Cure: a lower schedule.lr, or a lower rate of the memories' gates."
            )
        self.learner.step()
        return norm

    def _next(self) -> tuple[int, int]:
        """Which batch is read next, and from which token on."""
        return self.place.drawn + 1, 0

    def _advance(self, loss: float, right: float) -> None:
        """Where the training stands after an update."""
        place = self.place
        drawn, offset = self._next()
        lesson = self.run.lessons[place.lesson]
        self.log["losses"] = [*self.log["losses"], loss][-self.run.watch.stop_after :]
        self.log["right"] = [*self.log["right"], right][-lesson.patience :]
        place = replace(place, step=place.step + 1, since=place.since + 1, drawn=drawn, offset=offset)
        good = (
            lesson.promote_at is not None
            and len(self.log["right"]) == lesson.patience
            and sum(self.log["right"]) / lesson.patience >= lesson.promote_at
        )
        if offset == 0 and (good or place.since >= lesson.steps):
            place, self.log["right"] = replace(place, lesson=place.lesson + 1, since=0), []
        watch, losses = self.run.watch, self.log["losses"]
        if watch.stop_below is not None and len(losses) == watch.stop_after and sum(losses) / len(losses) < watch.stop_below:
            place = replace(place, lesson=len(self.run.lessons))
        self.place = place

    def _share(self, step: int) -> float:
        return self.run.schedule.share(min(step, self.run.steps), self.run.steps)

    def _about(self, seconds: float) -> dict[str, Any]:
        self.log["seconds"] = round(seconds, 3)
        return dict(self.log)
