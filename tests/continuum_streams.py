"""Streams on which continuum memories learn: the loop that a model would run, and the same by hand, token by token and row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from retain.layers import ContinuumMemory, Level

DIM, HIDDEN = 5, 7
Loss = Callable[[Tensor, slice], Tensor]
Weights = dict[str, Tensor]


def memory_of(*levels: Level, form: str = "sequential", seed: int = 0) -> ContinuumMemory:
    """A memory in float64 whose gains do not stand where they start."""
    torch.manual_seed(seed)
    memory = ContinuumMemory(DIM, HIDDEN, levels=levels, form=form).double()  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for name, weight in memory.named_parameters():
            if "norm" in name:
                weight.add_(0.3 * torch.randn_like(weight))
    return memory


def levels_of(*periods: int, lr: float = 0.05, around: str = "residual") -> tuple[Level, ...]:
    """Levels of plain gradient descent."""
    return tuple(Level(every=every, options={"lr": lr * (1 + i)}, around=around) for i, every in enumerate(periods))  # pyright: ignore[reportArgumentType]


def regression(rows: int = 2, time: int = 21, seed: int = 1) -> tuple[Tensor, Tensor]:
    """A stream and its targets, each [rows, time, dim]."""
    source = torch.Generator().manual_seed(seed)
    x, target = (torch.randn(rows, time, DIM, generator=source, dtype=torch.float64) for _ in range(2))
    return x, target


def squared(target: Tensor) -> Loss:
    """Half the squared error, summed over rows and tokens."""
    return lambda y, where: (y - target[:, where]).square().sum() / 2


def stream_learning(
    memory: ContinuumMemory, x: Tensor, loss: Loss, state: Mapping[str, Tensor] | None = None, first: int = 0, last: int | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Read tokens ``first`` to ``last`` up to the next update of any level, take the gradient of their loss, learn, and so on."""
    rows, last = len(x), x.shape[1] if last is None else last
    state, outputs, t = dict(memory.start(rows) if state is None else state), [], first
    while t < last:
        stop = min(last, t + int(memory.room(state).min()))
        weights = memory.weights(state)
        y = memory(x[:, t:stop], state)
        gradients = torch.autograd.grad(loss(y, slice(t, stop)), list(weights.values()), create_graph=True) if weights else ()
        state = memory.learn(state, dict(zip(weights, gradients, strict=True)), torch.full((rows,), stop - t))
        outputs.append(y)
        t = stop
    return torch.cat([x[:, :0], *outputs], dim=1), state


def block_by_hand(level: Level, weights: Weights, gain: Tensor | None, x: Tensor) -> Tensor:
    """One level's answer to one token [dim]."""
    seen = x if gain is None else gain * x / (x.square().mean() + 1e-6).sqrt()
    gate, up = weights["gate"] @ seen, weights["up"] @ seen
    y = weights["down"] @ (gate * torch.sigmoid(gate) * up)
    return x + y if level.around == "residual" else y


def chain_by_hand(memory: ContinuumMemory, weights: Sequence[Weights], x: Tensor) -> Tensor:
    """The answer of all levels, one after the other, to one token."""
    for level, own, gain in zip(memory.levels, weights, gains(memory), strict=True):
        x = block_by_hand(level, own, gain, x)
    return x


def gains(memory: ContinuumMemory) -> list[Tensor | None]:
    return [memory.get_parameter(f"blocks.{i}.norm.weight") if level.around == "residual" else None for i, level in enumerate(memory.levels)]


def starts(memory: ContinuumMemory) -> list[Weights]:
    """The slow weights of each level."""
    names = ("gate", "up", "down")
    return [{name: memory.get_parameter(f"blocks.{i}.{name}.weight") for name in names} for i in range(len(memory.levels))]


def learnt_by_hand(
    memory: ContinuumMemory,
    x: Tensor,
    cost: Callable[[Tensor, int], Tensor],
    read: Callable[[ContinuumMemory, Sequence[Weights], Tensor], Tensor] = chain_by_hand,
) -> tuple[Tensor, list[Weights]]:
    """Equation 71 for one row [time, dim] and gradient descent: each token's gradient for itself, C of them to a step; with equation 72's new starts."""
    weights, outputs = starts(memory), []
    sums = [{name: torch.zeros_like(w) for name, w in own.items()} for own in weights]
    learning = [i for i, level in enumerate(memory.levels) if level.every]
    for t in range(1, len(x) + 1):
        weights = [{name: 1.0 * w for name, w in own.items()} for own in weights]  # so that no gradient finds a way through earlier steps
        y = read(memory, weights, x[t - 1])
        wanted = [weights[i][name] for i in learning for name in weights[i]]
        found = iter(torch.autograd.grad(cost(y, t - 1), wanted, create_graph=True))
        for i in learning:
            sums[i] = {name: total + next(found) for name, total in sums[i].items()}
        for i in learning:
            if t % memory.levels[i].every == 0:
                rate = memory.levels[i].options["lr"]
                weights[i] = {name: w - rate * sums[i][name] for name, w in weights[i].items()}
                sums[i] = {name: torch.zeros_like(w) for name, w in weights[i].items()}
        if memory.form == "nested":
            ended = [slow for slow in learning if t % memory.levels[slow].every == 0]
            for i in learning:
                if any(memory.levels[slow].every > memory.levels[i].every for slow in ended):
                    weights[i] = starts(memory)[i]
        outputs.append(y)
    return torch.stack(outputs), weights


def weights_in(state: Mapping[str, Tensor], level: int, row: int) -> Weights:
    """One row's weights of one level."""
    return {name: state[f"{level}/weights/{name}"][row] for name in ("gate", "up", "down")}
