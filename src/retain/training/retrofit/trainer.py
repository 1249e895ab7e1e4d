"""The training of memories in a model that is frozen."""

from __future__ import annotations

import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from retain.retrofit import FrozenPrefix, attach, branches_of, calibrate, memory_weights, opening, save, saved_weights, start_recalling
from retain.retrofit.families import family_of
from retain.retrofit.prefix import side_by_side
from retain.tasks import AbstractPages, Page
from retain.tasks.codec import read

from ..checkpoint import checkpoints, legible, load_training, save_training, whole_checkpoint
from ..lessons import TRAINED, Place
from ..loop import AbstractTraining
from ..optimizer import optimizer
from ..workers import like, whole
from .objective import PageObjective
from .run import RetrofitRun
from .shards import gather_for_states


class RetrofitTrainer(AbstractTraining[RetrofitRun, PreTrainedModel]):
    """Trains the memories of a pretrained model in a folder, from where an earlier training stopped if there is one.

    The folder holds ``run.json``, the run in full; ``metrics.jsonl``; ``checkpoints/step-N``; and in the end ``model``, which ``retain.retrofit.load`` gives
    back to the base. No weight of the base is written anywhere.

    Args:
        run: What to do.
        folder: Where; a folder of another run is refused.
        device: Where it is trained; a GPU if there is one, unless given.
        kept: What the frozen layers made of pages in another training of the same base; see ``FrozenPrefix``.

    Raises:
        CheckpointError: The folder holds a run with other settings, or a damaged checkpoint.
        ValueError: The base cannot be given a memory, or has no token to begin a text with.

    Examples:
        >>> from retain.retrofit import MemoryConfig
        >>> from retain.tasks import Letters, Pairs
        >>> from retain.training import Lesson
        >>> from retain.training.retrofit import Fitting, PageReading, RetrofitRun
        >>> lesson = Lesson(tasks=(Pairs(facts=3, asked=2, keys=Letters(2)),), steps=2)
        >>> run = RetrofitRun(model=Fitting(base="tiny", memory=MemoryConfig(memory={"heads": 2})), lessons=(lesson,), reading=PageReading(rows=4))
        >>> run.steps  # RetrofitTrainer(run, Path("runs/mine")).fit() takes them
        2
    """

    def __init__(
        self, run: RetrofitRun, folder: Path, device: Literal["cuda", "cpu"] | None = None, *, kept: dict[bytes, Tensor] | None = None
    ) -> None:
        super().__init__(run, folder, device)
        how = run.reading
        self.model = AutoModelForCausalLM.from_pretrained(run.model.base, dtype=torch.bfloat16 if how.precision == "bf16" else torch.float32)
        self.start = opening(AutoTokenizer.from_pretrained(run.model.base), run.model.opening)
        torch.manual_seed(run.seed)
        attach(self.model.to(self.workers.device), run.model.memory)  # pyright: ignore[reportArgumentType, reportCallIssue]
        self._begin()
        if how.checkpointing:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        self.prefix = FrozenPrefix(self.model, kept) if how.pool else None
        margin = run.restraint.margin if run.restraint.write_cost else None
        objective, layers = PageObjective(self.model, self.start, self.prefix, margin), family_of(self.model).layers_of(self.model)
        self.objective = self.workers.spread(objective, how.across, [*branches_of(self.model), *layers])
        if self.workers.count > 1 and how.across == "shards":
            gather_for_states(layers)
        self.learner = optimizer(self.model, run.schedule)

    def _begin(self) -> None:
        """Calibrate features, and start as the run says."""
        fitting, lesson = self.run.model, self.run.lessons[0]
        pages = [lesson.tasks[seed % len(lesson.tasks)].page(TRAINED - 1 - seed) for seed in range(fitting.calibrated)]
        ordinary = self._ordinary(random.Random("calibration"), rows=fitting.calibrated // 4 + 1)
        rows = [torch.cat([torch.tensor(self.start), part]) for part in [*(part for page in pages for part in page.parts), *ordinary]]
        batches = [
            {"input_ids": t, "attention_mask": m} for t, m in (side_by_side(rows[i : i + 8], self.model.device) for i in range(0, len(rows), 8))
        ]
        if fitting.memory.features == "centred":
            calibrate(self.model, batches)
        if fitting.start == "recall":
            start_recalling(self.model, batches, scale=fitting.scale, lags=fitting.lags)

    def _update(self) -> dict[str, float]:
        run, place, workers = self.run, self.place, self.workers
        restraint, parts = run.restraint, self._parts()
        share = run.lessons[place.lesson].write_cost * restraint.write_cost
        self.learner.zero_grad()
        pages = [page for part in parts for page in part]
        counts = [sum(len(question.answer) for page in pages for question in page.questions), sum(len(page.questions) for page in pages)]
        counts.append(sum(len(self.start) + len(part) for page in pages for part in page.parts))
        tokens, questions, written = workers.total(*torch.tensor(counts, device=workers.device))
        came = torch.zeros(4, device=workers.device)
        for i, part in enumerate(parts):
            ordinary = torch.stack(self._ordinary(self._dice(i), restraint.rows)).to(workers.device) if restraint.divergence else None
            read = restraint.rows * restraint.length * len(parts) * workers.count
            with workers.waiting(self.objective, more=i < len(parts) - 1):
                graded = self.objective(part, ordinary)
                loss = graded.loss / tokens + restraint.divergence * graded.divergence / read + share * graded.cost / written
                (loss * workers.count).backward()  # gradients are averaged over processes
            came = came + torch.stack([number.detach().float() for number in graded])
        loss, exact, divergence, cost = workers.total(*came)
        numbers = {"loss": loss / tokens, "right": exact / questions}
        if restraint.divergence:
            numbers["divergence"] = divergence / (restraint.rows * restraint.length * len(parts) * workers.count)
        if restraint.write_cost:
            numbers["write_cost"] = cost / written
        return {**numbers, "norm": self._step(loss / tokens)}

    def _parts(self) -> list[list[Page]]:
        """This process's pages of the present batch, in parts that are read one after the other. All come from one task of the lesson."""
        run, place = self.run, self.place
        lesson, size = run.lessons[place.lesson], run.reading.rows // run.reading.accumulate
        task = random.Random(f"lesson {run.seed} {place.drawn}").choice(lesson.tasks)
        mine = self.workers.rows(size)
        return [[self._page(task, i * size + row) for row in mine] for i in range(run.reading.accumulate)]

    def _page(self, task: AbstractPages, row: int) -> Page:
        """The page of a row of the present batch, with the questions that are asked this time."""
        reading, drawn = self.run.reading, self.place.drawn
        number = drawn * reading.rows + row
        if reading.pool is None:
            page = task.page(TRAINED + (self.run.seed << 44) + number)
        else:  # the pool is the same for all seeds, and each goes through it in orders of its own
            order = random.Random(f"pool {self.run.seed} {number // reading.pool}").sample(range(reading.pool), reading.pool)
            page = task.page(TRAINED + order[number % reading.pool])
        if reading.asked is None or reading.asked >= len(page.questions):
            return page
        chosen = random.Random(f"asked {self.run.seed} {number}").sample(page.questions, reading.asked)
        return replace(page, questions=tuple(chosen))

    def _dice(self, part: int) -> random.Random:
        """What draws the ordinary text beside a part of the present batch; as long as pages come again, so does it, and it is the same for all seeds."""
        reading, drawn = self.run.reading, self.place.drawn
        which = f"{self.run.seed} {drawn}" if reading.pool is None else drawn % (reading.pool // reading.rows)
        return random.Random(f"ordinary {which} {part} {self.workers.rank}")

    def _ordinary(self, dice: random.Random, rows: int) -> list[Tensor]:
        restraint = self.run.restraint
        return [read(restraint.codec, lambda size: restraint.text.draw(size, dice), restraint.length) for _ in range(rows)]

    def _load(self) -> None:
        found = checkpoints(self.folder / "checkpoints")
        if not found:
            return
        with legible(found[-1]):
            saved = saved_weights(found[-1])
        with torch.no_grad():
            for name, weight in memory_weights(self.model).items():
                weight.copy_(like(saved[name], weight))
        about = load_training(found[-1], self.learner)
        self.place, self.log = Place(**about["place"]), about["log"]

    def _save(self, seconds: float) -> None:
        about = {"place": asdict(self.place), "log": self._about(seconds)}
        weights = {name: whole(weight) for name, weight in memory_weights(self.model).items()}
        with whole_checkpoint(self.folder / "checkpoints", self.place.step, self.run.watch.keep, self.workers) as beside:
            if self.workers.first:
                save(self.model, beside, weights=weights)
            save_training(beside, self.learner, about, self.workers)

    def _keep(self) -> None:
        save(self.model, self.folder / "model", weights=saved_weights(checkpoints(self.folder / "checkpoints")[-1]))
