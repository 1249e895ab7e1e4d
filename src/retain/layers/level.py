"""One level of a continuum memory: how often its MLP changes, and by which optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import retain.optim as optim
from retain.core.trees import stretch, under
from retain.optim import AbstractOptimizer

from .norm import RMS

Around = Literal["residual", "nothing"]


@dataclass(frozen=True, kw_only=True)
class Level:
    r"""How one MLP of a ``ContinuumMemory`` learns while it reads: plain data.

    Symbols: ``every`` $C^{(\ell)}$, the ``lr`` among the options $\eta^{(\ell)}$. Source: Nested Learning section 7.1 and equation 71.

    Args:
        every: Tokens between two of its updates; 0 never updates it, frequency 0.
        optimizer: Name of the class of ``retain.optim`` that takes its steps.
        options: Options of the optimizer; the others stand at its defaults.
        learnt_rate: Whether the logarithm of ``lr`` is a slow weight.
        around: ``"residual"`` is $x + \mathrm{MLP}(\mathrm{RMS}(x))$; ``"nothing"`` is $\mathrm{MLP}(x)$, for an MLP whose surroundings bring both.

    Raises:
        ValueError: An argument makes no sense; the message names it.

    Examples:
        >>> Level(every=16, optimizer="Momentum", options={"lr": 0.1}).rule.__name__
        'Momentum'
    """

    every: int
    optimizer: str = "GradientDescent"
    options: Mapping[str, Any] = field(default_factory=dict)
    learnt_rate: bool = False
    around: Around = "residual"

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ValueError(f"Level.every counts the tokens between two updates, got {self.every}; 0 is a level that never changes.")
        if self.around not in get_args(Around):
            raise ValueError(f"Level.around must be 'residual' or 'nothing', got {self.around!r}.")
        lr = self.rule.options(**self.options)["lr"]
        if self.learnt_rate and not (self.every and lr > 0):
            raise ValueError(f"Level.learnt_rate learns the logarithm of a rate, which needs every > 0 and lr > 0, got {self.every} and {lr!r}.")

    @property
    def rule(self) -> type[AbstractOptimizer]:
        """The class that takes its steps."""
        known = {name: part for name, part in vars(optim).items() if inspect.isclass(part) and issubclass(part, AbstractOptimizer)}
        usable = [name for name, part in known.items() if not inspect.isabstract(part) and "params" in inspect.signature(part).parameters]
        if self.optimizer not in usable:
            why = f"{self.optimizer} is not one that takes params alone" if self.optimizer in known else f"there is no optimizer {self.optimizer!r}"
            raise ValueError(f"a level knows gradients, not the inputs of layers, and {why}; choose one of {', '.join(usable)}.")
        return known[self.optimizer]


class LevelMLP(nn.Module):
    r"""The slow weights of a level, $W_d\,(\mathrm{silu}(W_g x) \odot W_u x)$, where every stream starts, and the laws by which a stream's own ones move.

    What a level keeps of its streams is a flat mapping, rows first: ``weights/gate``, the sum of gradients ``sums/gate``, and what the optimizer keeps,
    such as ``optimizer/gate/momentum``; so for ``up`` and ``down``.

    Args:
        level: How it learns.
        dim: Width of the stream.
        hidden: Width inside.
    """

    def __init__(self, level: Level, dim: int, hidden: int) -> None:
        super().__init__()
        self.level = level
        self.gate, self.up = nn.Linear(dim, hidden, bias=False), nn.Linear(dim, hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)
        self.norm = RMS().build(dim) if level.around == "residual" else None
        self.log_rate = None
        if level.learnt_rate:
            self.log_rate = nn.Parameter(torch.tensor(float(level.rule.options(**level.options)["lr"])).log())

    def initial(self) -> dict[str, Tensor]:
        """The slow weights of the MLP, where a stream's own ones start."""
        return {"gate": self.gate.weight, "up": self.up.weight, "down": self.down.weight}

    def options(self) -> dict[str, Any]:
        """The options of its optimizer, with the rate as it has been learnt."""
        complete = self.level.rule.options(**self.level.options)
        return complete if self.log_rate is None else {**complete, "lr": self.log_rate.exp()}

    def start(self, rows: int) -> dict[str, Tensor]:
        """What is kept of streams that begin, in float32 or better; nothing if the level never changes."""
        kept: dict[str, Tensor] = {}
        for name, weight in self.initial().items() if self.level.every else ():
            own = weight.to(torch.promote_types(weight.dtype, torch.float32)).expand(rows, *weight.shape)
            kept |= {f"weights/{name}": own, f"sums/{name}": torch.zeros_like(own)}
            kept |= {f"optimizer/{name}/{key}": part for key, part in self.level.rule.begin(own, self.options(), lead=1).items()}
        return kept

    def forward(self, x: Tensor, kept: Mapping[str, Tensor]) -> Tensor:
        """What the MLP says to the tokens [rows, time, dim], without the residual; with the slow weights where nothing is kept."""
        seen = x if self.norm is None else self.norm(x)
        if not kept:
            return self.down(F.silu(self.gate(seen)) * self.up(seen))
        gate, up, down = (kept[f"weights/{name}"].to(x.dtype).mT for name in ("gate", "up", "down"))
        return (F.silu(seen @ gate) * (seen @ up)) @ down

    def add(self, kept: Mapping[str, Tensor], gradients: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """``kept`` with gradients added to the sums of the rows [rows] that have read."""
        sums = {f"sums/{name}": kept[f"sums/{name}"] + gradients[name] for name in self.initial()}
        if not bool(rows.all()):
            sums = {path: torch.where(stretch(rows.to(part.device), part), part, kept[path]) for path, part in sums.items()}
        return {**kept, **sums}

    def step(self, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``kept`` after a step of the optimizer along the sums, which begin again at zero. Source: Nested Learning equation 71."""
        after: dict[str, Tensor] = {}
        for name in self.initial():
            own, total, past = kept[f"weights/{name}"], kept[f"sums/{name}"], under(kept, f"optimizer/{name}/")
            moved, past = self.level.rule.advance(own, total, past, self.options(), lead=1)
            after |= {f"weights/{name}": moved, f"sums/{name}": torch.zeros_like(total)}
            after |= {f"optimizer/{name}/{key}": part for key, part in past.items()}
        return after
