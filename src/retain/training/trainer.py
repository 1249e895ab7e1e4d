"""The loop: it may be stopped or killed at any moment, and goes on as if nothing had happened."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from retain.models import RetainCache, RetainConfig, RetainForCausalLM
from retain.storage import write_whole
from retain.tasks import Batch

from .checkpoint import CheckpointError, checkpoints, load_checkpoint, save_checkpoint, sweep
from .describe import described, differences
from .lessons import Place, draw
from .metrics import Metrics
from .objective import Objective
from .optimizer import optimizer
from .run import Run
from .workers import Workers, whole


class Stop(Exception):
    """The training was asked to stop, and everything that it had done is in its folder."""


class Trainer:
    """Trains a run in a folder, from where an earlier one stopped if there is one.

    The folder holds ``run.json``, the run in full; ``metrics.jsonl``; ``checkpoints/step-N``, each a model that ``from_pretrained`` loads; and in
    the end ``model``, the trained one.

    Args:
        run: What to do.
        folder: Where; a folder of another run is refused.

    Raises:
        CheckpointError: The folder holds a run with other settings, or a damaged checkpoint.
        ValueError: Levels are to learn in a model that is spread in shards or forgets its activations.

    Examples:
        >>> import tempfile
        >>> from retain.tasks import Parity
        >>> from retain.training import Lesson, Reading, Run
        >>> tiny = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "block": "lmm"}
        >>> run = Run(model=tiny, lessons=(Lesson(tasks=(Parity(shortest=2, longest=4),), steps=2),), reading=Reading(rows=2))
        >>> with tempfile.TemporaryDirectory() as place:
        ...     Trainer(run, Path(place)).fit().config.block
        'lmm'
    """

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.folder, self.workers = run, folder, Workers.present()
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
        self.model = RetainForCausalLM(RetainConfig(**{"vocab_size": run.vocab_size, **run.model}))
        self.model.train().to(device=self.workers.device)  # pyright: ignore[reportCallIssue, reportArgumentType]
        if self.model.model.levels_learn and (run.reading.checkpointing or run.reading.across == "shards"):
            raise ValueError(
                "levels that learn take gradients while they read, for which all activations and weights are at hand. Cure: Reading(checkpointing=False, "
                "across='replicas'), or model levels=[]."
            )
        if run.reading.checkpointing:
            self.model.activation_checkpointing_enable()
        self.objective = self.workers.spread(Objective(self.model), run.reading.across)
        self.learner = optimizer(self.model, run.schedule)
        self.place, self.cache, self.log = Place(), RetainCache(), {"losses": [], "right": [], "seconds": 0.0}
        self.batch: Batch | None = None

    def fit(
        self, tick: Callable[[Place, float, float], None] = lambda place, loss, right: None, wanted: Callable[[], bool] = lambda: False
    ) -> RetainForCausalLM:
        """Train to the end; the model comes back in evaluation mode.

        Args:
            tick: Told where the training stands, the loss and the share of right answers, after each update.
            wanted: Asked between updates whether to stop.

        Raises:
            Stop: That was wanted. The folder holds what goes on from here.
            FloatingPointError: The loss is not finite.
        """
        metrics = self._resume()
        begin, spent = time.perf_counter(), self.log["seconds"]
        while self.place.lesson < len(self.run.lessons):
            if wanted():
                self._save(spent + time.perf_counter() - begin)
                raise Stop
            loss, right, norm = self._update()
            self._advance(loss, right)
            step = self.place.step
            if self.workers.first and metrics is not None and (step % self.run.watch.every == 0 or self.place.lesson == len(self.run.lessons)):
                share = self._share(step - 1)
                numbers = {"loss": loss, "right": right, "norm": norm, "lr": self.run.schedule.lr * share, "lesson": float(self.place.lesson)}
                metrics.write(step, numbers | {"seconds": round(spent + time.perf_counter() - begin, 3)})
            if step % self.run.watch.save_every == 0:
                self._save(spent + time.perf_counter() - begin)
            tick(self.place, loss, right)
        self._save(spent + time.perf_counter() - begin)
        if self.workers.first:
            newest = checkpoints(self.folder / "checkpoints")[-1]
            RetainForCausalLM.from_pretrained(newest).save_pretrained(self.folder / "model")
        self.workers.together()
        return self.model.eval()

    # ---- one update

    def _update(self) -> tuple[float, float, float]:
        """One step of the optimizer: the loss and share of right answers over all its rows, and the norm of the gradients."""
        reading, place = self.run.reading, self.place
        for group in self.learner.param_groups:
            group["lr"] = group["peak"] * self._share(place.step)
        self.learner.zero_grad()
        parts = self._parts()
        device = self.workers.device
        # A row's last token is not read: nothing follows it.
        sums = (torch.stack([x.sum() for x in kind]).sum().to(device) for kind in ([p.asked[:, 1:] for p in parts], [p.mask[:, 1:] for p in parts]))
        count, read = (max(1.0, number) for number in self.workers.total(*sums))
        loss, right = torch.zeros((), device=device), torch.zeros((), device=device)
        write_cost = self.run.lessons[place.lesson].write_cost * self.model.config.write_cost
        for i, part in enumerate(parts):
            tokens, mask, asked, answers = (x.to(device) for x in (part.tokens[:, :-1], part.mask[:, 1:], part.asked[:, 1:], part.answers[:, 1:]))
            cache = self.cache if reading.segment else RetainCache()
            with (
                self.workers.waiting(self.objective, more=i < len(parts) - 1),
                torch.autocast(device.type, torch.bfloat16, reading.precision == "bf16"),
            ):
                graded = self.objective(tokens, mask, asked, answers, cache)
                whole_loss = graded.loss / count + write_cost * graded.cost / read
                (whole_loss * self.workers.count).backward()  # gradients are averaged over processes
            loss, right = loss + graded.loss.detach(), right + graded.right
        self.cache = self.cache.detach() if reading.segment else self.cache
        norm = float(whole(nn.utils.clip_grad_norm_(self.model.parameters(), self.run.schedule.clip)))
        total, good = self.workers.total(loss, right)
        if not math.isfinite(total) or not math.isfinite(norm):
            raise FloatingPointError(
                f"training went astray at step {place.step}: the loss is {total / count} and the gradients' norm {norm}. "
                f"The last checkpoint is sound. Cure: a lower schedule.lr, or a lower rate of the memories' gates."
            )
        self.learner.step()
        return total / count, good / count, norm

    def _parts(self) -> list[Batch]:
        """This process's rows of the present batch, or of its present segment, in parts that are read one after the other."""
        reading, place = self.run.reading, self.place
        size = reading.rows // reading.accumulate
        mine = self.workers.rows(size)
        if reading.segment is None:
            return [draw(self.run, place, range(i * size + mine.start, i * size + mine.stop)) for i in range(reading.accumulate)]
        if self.batch is None:
            self.batch = draw(self.run, place, mine)
        if place.offset == 0:
            self.cache = RetainCache()
        stop = place.offset + reading.segment + 1
        cut = {name: getattr(self.batch, name)[:, place.offset : stop] for name in ("tokens", "asked", "mask", "answers")}
        return [Batch(**cut, facts=self.batch.facts)]

    def _advance(self, loss: float, right: float) -> None:
        """Where the training stands after an update."""
        place, segment = self.place, self.run.reading.segment
        if segment is not None and self.batch is not None and place.offset + segment + 1 < self.batch.tokens.shape[1]:
            drawn, offset = place.drawn, place.offset + segment
        else:
            drawn, offset, self.batch = place.drawn + 1, 0, None
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

    # ---- stopping and going on

    def _resume(self) -> Metrics | None:
        found = checkpoints(self.folder / "checkpoints")
        if found:
            self.place, self.log, self.cache = load_checkpoint(found[-1], self.model, self.learner, self.workers)
        self.workers.together()
        return Metrics(self.folder, self.place.step, self.run.watch.to) if self.workers.first else None

    def _save(self, seconds: float) -> None:
        self.log["seconds"] = round(seconds, 3)
        about: dict[str, Any] = dict(self.log)
        save_checkpoint(self.folder / "checkpoints", self.model, self.learner, self.place, about, self.cache, self.run.watch.keep, self.workers)
