"""One training: a problem, an optimizer, a rate, a seed."""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

import torch
from torch import nn

from retain.training import Schedule

from .contenders import CONTENDERS, parted
from .problems import AbstractProblem, Part

EVERY = 25
"""Updates between two looks at what is held out; the training loss is a mean over as many."""


def train(problem: AbstractProblem, name: str, lr: float, seed: int, part: Part) -> dict[str, Any]:
    """Losses in nats, None for a training that goes astray: the last ones of training, and what is held out along the way; seconds of the processor."""
    torch.manual_seed(seed)
    model = problem.model()
    dice = torch.Generator().manual_seed(seed)
    optimizers = CONTENDERS[name](*parted(model), lr)
    groups = [(group, group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
    schedule = Schedule(warm_up=problem.warm_up)
    curve, losses, seconds = [(0, *problem.graded(model, part))], [], 0.0
    for step in range(problem.updates):
        begun = time.process_time()
        for group, peak in groups:
            group["lr"] = peak * schedule.share(step, problem.updates)
        model.zero_grad()
        loss = problem.loss(model, *problem.batch(dice))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), schedule.clip)
        for optimizer in optimizers:
            optimizer.step()
        seconds += time.process_time() - begun
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        if (step + 1) % EVERY == 0:
            curve.append((step + 1, *problem.graded(model, part)))
    done, held_out, right = curve[-1]
    sound = done == problem.updates and math.isfinite(held_out)
    found = {"loss": held_out, "right": right, "training_loss": statistics.mean(losses[-EVERY:])}
    return {
        "lr": lr,
        "updates": problem.updates,
        "seconds": round(seconds, 2),
        **(found if sound else dict.fromkeys(found)),
        "curve": [point for point in curve if math.isfinite(point[1])],
    }
