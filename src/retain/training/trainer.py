"""The training of a model of ours, from its first weights on."""

from __future__ import annotations

from pathlib import Path

import torch

from retain.blocks import Block
from retain.models import RetainCache, RetainConfig, RetainForCausalLM
from retain.tasks import Batch

from .checkpoint import checkpoints, load_checkpoint, save_checkpoint
from .lessons import draw
from .loop import AbstractTraining
from .objective import Objective
from .optimizer import optimizer
from .run import Run


class Trainer(AbstractTraining[Run, RetainForCausalLM]):
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
        super().__init__(run, folder)
        self.model = RetainForCausalLM(RetainConfig(**{"vocab_size": run.vocab_size, **run.model}))
        self.model.train().to(device=self.workers.device)  # pyright: ignore[reportCallIssue, reportArgumentType]
        if self.model.model.levels_learn and (run.reading.checkpointing or run.reading.across == "shards"):
            raise ValueError(
                "levels that learn take gradients while they read, for which all activations and weights are at hand. Cure: Reading(checkpointing=False, "
                "across='replicas'), or model levels=[]."
            )
        if run.reading.checkpointing:
            self.model.activation_checkpointing_enable()
        self.objective = self.workers.spread(Objective(self.model), run.reading.across, [m for m in self.model.modules() if isinstance(m, Block)])
        self.learner = optimizer(self.model, run.schedule)
        self.cache = RetainCache()
        self.batch: Batch | None = None

    def _update(self) -> dict[str, float]:
        reading, place = self.run.reading, self.place
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
        total, good = self.workers.total(loss, right)
        return {"loss": total / count, "right": good / count, "norm": self._step(total / count)}

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

    def _next(self) -> tuple[int, int]:
        place, segment = self.place, self.run.reading.segment
        if segment is not None and self.batch is not None and place.offset + segment + 1 < self.batch.tokens.shape[1]:
            return place.drawn, place.offset + segment
        self.batch = None
        return place.drawn + 1, 0

    def _load(self) -> None:
        found = checkpoints(self.folder / "checkpoints")
        if found:
            self.place, self.log, self.cache = load_checkpoint(found[-1], self.model, self.learner, self.workers)

    def _save(self, seconds: float) -> None:
        about = self._about(seconds)
        save_checkpoint(self.folder / "checkpoints", self.model, self.learner, self.place, about, self.cache, self.run.watch.keep, self.workers)

    def _keep(self) -> None:
        newest = checkpoints(self.folder / "checkpoints")[-1]
        RetainForCausalLM.from_pretrained(newest).save_pretrained(self.folder / "model")
