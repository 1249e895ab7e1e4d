"""A continuum memory that reads a class-incremental stream: where it starts, how it learns, and what it still knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.layers import ContinuumMemory, Level
from retain.layers.continuum import Form

from .streams import CLASSES, FEATURES, PER_TASK, TASK, TASKS, Pool, Streams, drawn

HIDDEN, FASTEST = 96, 8
"""Width inside all levels together; samples between two updates of the fastest level."""
SCALE = 8.0
"""Of cosines, where they become logits."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How a memory of ``HIDDEN`` units is divided into levels.

    Args:
        steps: Of each block, how many times the period is longer by ``Rates.spacing``; 0 is the fastest.
        form: How they are composed.
    """

    steps: tuple[int, ...]
    form: Form = "sequential"

    @property
    def starts(self) -> tuple[int, bool]:
        """What has this in common shares its pretraining: the number of blocks, and whether they stand side by side."""
        return len(self.steps), self.form == "independent"


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What is tuned.

    Args:
        first: The rate of the first block.
        ratio: That of each next one, relative to the one before it.
        spacing: Between the periods of two frequencies next to each other.
    """

    first: float
    ratio: float = 1.0
    spacing: int = 4


class Learner(nn.Module):
    """Levels, and ten directions at right angles that stand for the ten classes; the levels alone learn from a stream.

    Args:
        variant: The levels.
        rates: Where their rates start, and their periods.
    """

    def __init__(self, variant: Variant, rates: Rates) -> None:
        super().__init__()
        levels = [
            Level(every=FASTEST * rates.spacing**step, options={"lr": rates.first * rates.ratio**i}, learnt_rate=True)
            for i, step in enumerate(variant.steps)
        ]
        self.memory = ContinuumMemory(FEATURES, HIDDEN // len(levels), levels=levels, form=variant.form)
        self.scale = nn.Parameter(torch.tensor(SCALE).log())
        directions = torch.linalg.qr(torch.randn(FEATURES, CLASSES, generator=torch.Generator().manual_seed(0)))[0]
        self.directions = nn.Buffer(directions, persistent=False)

    def logits(self, x: Tensor, state: dict[str, Tensor] | None) -> Tensor:
        return self.scale.exp() * F.normalize(self.memory(x, state), dim=-1) @ self.directions

    def loss(self, x: Tensor, right: Tensor, state: dict[str, Tensor]) -> Tensor:
        """The sum of cross entropies over all ten classes, seen or not."""
        return F.cross_entropy(self.logits(x, state).flatten(0, 1), right.flatten(), reduction="sum")

    def read(self, streams: Streams, *, outer: bool = False) -> Iterator[dict[str, Tensor]]:
        """The state at the end of each task; behind which, if ``outer``, there is the graph of all that was learnt."""
        x, state, t = streams.x, self.memory.start(len(streams.x)), 0
        while t < streams.x.shape[1]:
            if not outer:
                state = {path: part.detach() for path, part in state.items()}
            weights = {path: own if outer else own.requires_grad_() for path, own in self.memory.weights(state).items()}
            stop = min(t + int(self.memory.room(state).min()), (t // TASK + 1) * TASK)
            loss = self.loss(x[:, t:stop], streams.answers[:, t:stop], state)
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=outer)
            state = self.memory.learn(state, dict(zip(weights, gradients, strict=True)), torch.full((len(x),), stop - t))
            t = stop
            if t % TASK == 0:
                yield state

    @torch.no_grad()
    def right(self, streams: Streams, state: dict[str, Tensor] | None, *, told: bool = False) -> Tensor:
        """The share of right answers about each task [rows, tasks], from among all ten classes; if the task is told, from among its two."""
        logits, right = (part.unflatten(1, (TASKS, -1)) for part in (self.logits(streams.asked, state), streams.right))
        if told:
            others = torch.ones(*right.shape[:2], CLASSES, dtype=torch.bool).scatter_(2, right, False)
            logits = logits.masked_fill(others[:, :, None], -torch.inf)
        return (logits.argmax(-1) == right).float().mean(-1)

    def matrix(self, streams: Streams) -> Tensor:
        """Right answers [rows, tasks, tasks]: after each task, about each."""
        return torch.stack([self.right(streams, state) for state in self.read(streams)], 1)


def measures(matrix: Tensor) -> dict[str, list[float]]:
    """Of a matrix [rows, tasks, tasks], means over rows.

    After each task: right answers about all classes seen so far, and about the newest. At the end: about all; and what was forgotten, the mean over earlier
    tasks of the best share there ever was, less the last.
    """
    tasks = matrix.shape[1]
    seen = [float(matrix[:, i, : i + 1].mean()) for i in range(tasks)]
    newest = [float(matrix[:, i, i].mean()) for i in range(tasks)]
    forgotten = (matrix.amax(1) - matrix[:, -1])[:, :-1].mean()
    out = {"seen": seen, "newest": newest, "final": [seen[-1]], "forgotten": [float(forgotten)]}
    return {name: [round(value, 4) for value in values] for name, values in out.items()}


def pretrained(variant: Variant, pool: Pool, seed: int, steps: int = 1500) -> dict[str, Tensor]:
    """The weights of levels from which all learning starts: trained to tell all classes of a pool apart, in no order."""
    torch.manual_seed(seed)
    learner = Learner(variant, Rates(first=1.0))
    samples = torch.cat(pool.lessons)
    labels = torch.cat([torch.full((len(own),), i) for i, own in enumerate(pool.lessons)])
    head = nn.Parameter(torch.randn(FEATURES, len(pool.lessons)))
    trained = [weight for name, weight in learner.named_parameters() if "log_rate" not in name]
    optimizer = torch.optim.AdamW([*trained, head], lr=3e-3, weight_decay=1e-2)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen = torch.randint(len(samples), (128,))
        y = learner.memory(samples[chosen, None])[:, 0]
        loss = F.cross_entropy(learner.scale.exp() * F.normalize(y, dim=-1) @ F.normalize(head, dim=0), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return learner.state_dict() | {"scale": torch.tensor(SCALE).log()}


def begun(variant: Variant, rates: Rates, weights: dict[str, Tensor]) -> Learner:
    """A learner with these starts, and rates as they are given."""
    learner = Learner(variant, rates)
    learner.load_state_dict({name: part for name, part in weights.items() if "log_rate" not in name}, strict=False)
    return learner


def meta_learnt(learner: Learner, pool: Pool, seed: int, *, steps: int, rows: int = 8, shuffled: bool = False) -> list[float]:
    """Learn the starts of all levels and their rates through whole streams (equation 73); the outer loss of each step.

    The outer loss is that of questions about all classes seen so far, the mean over the ends of tasks.
    """
    rates = [weight for name, weight in learner.named_parameters() if "log_rate" in name]
    others = [weight for name, weight in learner.named_parameters() if "log_rate" not in name]
    optimizer = torch.optim.Adam([{"params": others, "lr": 2e-3}, {"params": rates, "lr": 3e-2}])
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    found = []
    for step in range(steps):
        streams = drawn(pool, rows, (seed + 1 << 20) + step, questions=4, shuffled=shuffled)
        per_task = streams.asked.shape[1] * PER_TASK // CLASSES
        losses = []
        for task, state in enumerate(learner.read(streams, outer=True)):
            there = slice(0, None if shuffled else (task + 1) * per_task)
            losses.append(learner.loss(streams.asked[:, there], streams.right[:, there], state) / streams.right[:, there].numel())
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        decay.step()
        found.append(float(loss.detach()))
    return found
