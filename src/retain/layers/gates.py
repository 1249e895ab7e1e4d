"""Gates: how fast each token is learnt, how long surprise lingers, and how much is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.core.rule import MemoryRule
from retain.numerics import Layout


@dataclass(frozen=True, kw_only=True)
class Gates:
    r"""Per token and head: $\theta = \theta_{\max} \prod_k (1 - \eta^{(k)})\, c(z_\theta)$, $\eta = c(z_\eta)$, $\alpha = \alpha_{\max}\, c(z_\alpha)$.

    Each $z$ is a linear function of the layer's input and $c$ a curve from 0 to 1. The papers leave ranges, curves and starting values open; ours are
    such that an untrained memory learns what it sees and keeps what it began with: the rate is bounded by what the memory network can bear and shared
    with the momentum, whose steps add up to $1/(1-\eta)$ of it. Source: Titans section 3.1 (gates as functions of the token).

    A bias with a threshold has it multiplied by $2\sigma(z)$, which starts at one; the tokens of a window count for $\sigma(z)$ each, which starts at 0.9.
    Updates are scaled, weight by weight or channel by channel, by $\sigma(z)$ times the most that the learner allows, which starts at half of it.

    Args:
        curve: ``"sigmoid"``, or ``"hard"``, a piecewise linear one that reaches 0 and 1: a memory that can leave a token out altogether. The latter, with
            ``NeuralMemory.write_cost`` in the outer loss, is what makes a memory last for a million tokens; it is ours, not
            the papers'.
        rate: $\theta_{\max}$; None takes the bound of the memory's structure, over what features add to a key's squared length; where values are what a
            memory is asked by, over that of the token's value if it is above one.
        forget_max: $\alpha_{\max}$; None is 1 for the sigmoid and 0.01 for the hard curve, which would else forget by whole percents.
        lr: Where $c(z_\theta)$ starts; None starts at $1/2$ over the writes between two boundaries, whose steps add up before their error is measured again.
        momentum: Where $\eta$ starts.
        forget: Where $\alpha$ starts.
        damped: Whether the rate carries the factor $\prod_k (1 - \eta^{(k)})$.
        pool: What a step of many tokens takes all gates but $\theta$ from: its ``"last"`` token, the ``"mean"`` of its tokens, or their mean weighed
            feature by feature by an ``"attention"`` over the step, which starts as the mean.

    Raises:
        ValueError: A start lies outside (0, 1), or beyond ``forget_max``.

    Examples:
        >>> Gates(curve="hard", forget_max=0.01, forget=0.002).curve
        'hard'
    """

    curve: Literal["sigmoid", "hard"] = "sigmoid"
    rate: float | None = None
    forget_max: float | None = None
    lr: float | None = None
    momentum: float = 0.5
    forget: float = 3e-4
    damped: bool = True
    pool: Literal["last", "mean", "attention"] = "last"

    def __post_init__(self) -> None:
        for name, share in (("lr", self.lr), ("momentum", self.momentum), ("forget", self.forget / self.most_forgotten)):
            if share is not None and not 0 < share < 1:
                raise ValueError(
                    f"Gates.{name} starts at {getattr(self, name)}, which is not strictly between 0 and its maximum: no bias puts it there."
                )

    @property
    def most_forgotten(self) -> float:
        """``forget_max``, spelled out."""
        return self.forget_max or (1.0 if self.curve == "sigmoid" else 0.01)

    def build(self, dim: int, heads: int, widths: tuple[int, int], pairs: int, rule: MemoryRule) -> GateMap:
        """The module, with slow weights of its own, for keys and values of these widths."""
        return GateMap(self, dim, heads, widths, pairs, rule)

    @property
    def waist(self) -> int:
        """How wide the map is through which gates of channels come; 0 if they come straight from the stream."""
        return 0

    def logit(self, share: float) -> float:
        """The $z$ at which the curve has the value ``share``."""
        return math.log(share / (1 - share)) if self.curve == "sigmoid" else 6 * share - 3


@dataclass(frozen=True, kw_only=True)
class LowRankGates(Gates):
    r"""``Gates`` whose numbers for each channel come through a waist: $z = U D\,x + b$ with $D$ of ``rank`` rows, a map for each gate.

    The others are as in ``Gates``, and so are all starts. Source: MIRAS section 5.4 ($d \to k \to d$ with a $k$ of 32 or 64; what lies between the two maps
    is not stated, and nothing does here).

    Args:
        rank: $k$.

    Raises:
        ValueError: ``rank`` is below 1; from ``build``, if the rule has no gate for each channel.

    Examples:
        >>> from retain.memory import presets
        >>> LowRankGates(rank=4).build(8, 1, (8, 8), 1, presets.gla()).narrow["retain"].down.shape
        torch.Size([4, 8])
    """

    rank: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise ValueError(f"LowRankGates.rank must be at least 1, got {self.rank}. For maps of full rank use Gates().")

    @property
    def waist(self) -> int:
        return self.rank


class Narrow(nn.Module):
    """A linear map through a waist, without a bias. It starts about as small as the weight of all gates does."""

    def __init__(self, dim: int, waist: int, width: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(waist, dim) * dim**-0.5)
        self.up = nn.Parameter(_small(torch.randn(width, waist), dim) * (dim / waist) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.down.to(x)), self.up.to(x))


def _small(weight: Tensor, dim: int) -> Tensor:
    """Random numbers as far apart as weights start that read a stream of width ``dim``."""
    return weight * 0.02 * min(1.0, (64 / dim) ** 0.5)


class GateMap(nn.Module):
    """The slow weights of ``Gates``. Computed in float32 or better, whatever autocast says: a memory that keeps 0.9997 cannot be told so in bfloat16."""

    def __init__(self, gates: Gates, dim: int, heads: int, widths: tuple[int, int], pairs: int, rule: MemoryRule) -> None:
        super().__init__()
        key_dim, value_dim = widths
        self.gates, self.heads, self.every = gates, heads, rule.step_every
        self.rate = rule.structure.rate_bound(key_dim) if gates.rate is None else gates.rate
        retain = {"none": 0, "head": 1, "channel": key_dim, "outer": key_dim + value_dim}[rule.retention.gate]
        scales = len(rule.structure.init(1, key_dim, value_dim)) if rule.learner.scale_max else 0
        self.scale_max, self.channel_max = rule.learner.scale_max, rule.learner.channel_max
        window = rule.bias.window if rule.bias.window > 1 else 0
        thresholds = {"none": 0, "token": pairs, "channel": pairs * value_dim}[rule.bias.gate]
        self.widths = {  # the order of the rows below; those of what is each token's own come first
            "lr": pairs,
            "threshold": thresholds,
            "window": window,
            "momentum": rule.learner.moments,
            "mix": rule.learner.mixed,
            "scales": scales,
            "channels": key_dim if self.channel_max else 0,
            "retain": retain,
            "residual": int(rule.anchor.residual == "weights"),
        }
        kinds = {"threshold": rule.bias.gate, "channels": "channel", "retain": rule.retention.gate}
        self.by_channel = {name for name, kind in kinds.items() if self.widths[name] and kind in ("channel", "outer")}
        if gates.waist and not self.by_channel:
            raise ValueError("LowRankGates are for gates with a number for each channel, and this rule has none; use Gates().")
        self.own = heads * (pairs + thresholds + window)
        straight = {name: width for name, width in self.widths.items() if not (gates.waist and name in self.by_channel)}
        self.weight = nn.Parameter(_small(torch.randn(heads * sum(straight.values()), dim), dim))
        together = 1 if rule.learner.in_turn else pairs * rule.bias.window  # the writes of one step
        lr = gates.lr or 0.5 / (together * (rule.update_every or 64))
        starts = {"lr": gates.logit(lr), "window": math.log(9), "momentum": gates.logit(gates.momentum), "residual": -2.0}
        starts["retain"] = gates.logit(gates.forget / gates.most_forgotten)
        self.bias = nn.Parameter(torch.tensor([starts.get(name, 0.0) for name, width in self.widths.items() for _ in range(heads * width)]))
        self.narrow = nn.ModuleDict({name: Narrow(dim, gates.waist, heads * self.widths[name]) for name in self.widths if name not in straight})

        self.pool = nn.Linear(dim, dim) if gates.pool == "attention" and self.every > 1 else None
        if self.pool is not None:
            nn.init.zeros_(self.pool.weight)
            nn.init.zeros_(self.pool.bias)
        self.transition = nn.Parameter(torch.tensor(-5.0)) if rule.anchor.transition == "gated" else None

    @property
    def pooled(self) -> int:
        """Numbers a row that must be remembered in the middle of a step."""
        if self.pool is not None:
            return 2 * self.weight.shape[1]
        return self.bias.shape[0] - self.own if self.gates.pool == "mean" and self.every > 1 else 0

    def forward(
        self, x: Tensor, sums: Tensor | None, clock: Tensor, lengths: Tensor, reach: Tensor | float = 1.0
    ) -> tuple[dict[str, Tensor | None], Tensor | None]:
        """The gates of tokens [batch, time, dim], and the sums of the unfinished step.

        ``sums`` [batch, pooled] are those of the step that is under way, ``clock`` and ``lengths`` [batch] where each row stands and how many tokens it has,
        ``reach`` the squared length of what the memory is asked by, so far as it is above one.
        """
        z, own = self._logits(x), self.own
        if self.pool is not None:
            pooled, sums = self._attend(x, self.pool(x), sums, clock, lengths)
            z = torch.cat([z[..., :own], self._logits(pooled)[..., own:]], dim=-1)
        elif self.pooled:
            rest, sums = self._mean(z[..., own:], sums, clock, lengths)
            z = torch.cat([z[..., :own], rest], dim=-1)
        raw_lr, threshold, window, momentum, mix, scales, channels, retain, residual = (
            part.unflatten(-1, (self.heads, -1)) if part.shape[-1] else None
            for part in z.split([self.heads * w for w in self.widths.values()], dim=-1)
        )
        assert raw_lr is not None
        momentum = None if momentum is None else self._curve(momentum)
        lr = self.rate * self._curve(raw_lr)
        if self.gates.rate is None:
            lr = lr / reach
        if momentum is not None and self.gates.damped:
            lr = lr * (1 - momentum).prod(-1, keepdim=True)
        kept = None if retain is None else 1 - self.gates.most_forgotten * self._curve(retain)
        if kept is not None and "retain" not in self.by_channel:
            kept = kept.squeeze(-1)
        gates = {"lr": lr, "momentum": momentum, "mix": None if mix is None else mix.softmax(-1), "retain": kept}
        if threshold is not None:
            threshold = threshold.unflatten(-1, (raw_lr.shape[-1], -1)) if "threshold" in self.by_channel else threshold
            gates["threshold"] = 2 * threshold.sigmoid()
        if window is not None:
            gates["share"] = window.sigmoid().repeat_interleave(raw_lr.shape[-1], dim=-1)
        if scales is not None:
            gates["scales"] = self.scale_max * scales.sigmoid()
        if channels is not None:
            gates["channels"] = self.channel_max * channels.sigmoid()
        if residual is not None:
            gates["residual"] = residual.squeeze(-1).sigmoid()
        if self.transition is not None:
            gates["transition"] = self.transition.sigmoid().expand(*x.shape[:2], self.heads)
        return gates, sums

    def cost(self, x: Tensor, margin: float = 0.0) -> Tensor:
        """The openness $c(z + \\text{margin})$ of the learning and forgetting gates, each between 0 and 1 on average, added up [batch, time].

        Its gradient goes on where the hard curve has reached 1: a gate that stands wide open on what it should leave out is told so all the same.
        """
        z = self._logits(x) + margin
        parts = dict(zip(self.widths, z.split([self.heads * w for w in self.widths.values()], dim=-1), strict=True))
        lr, retain = parts["lr"], parts["retain"]
        cost = self._openness(lr).mean(-1)
        return cost + self._openness(retain).mean(-1) if retain.shape[-1] else cost

    def _logits(self, x: Tensor) -> Tensor:
        exact = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            x, weight, bias = (t.to(exact) for t in (x, self.weight, self.bias))
            return self._joined(x, F.linear(x, weight)) + bias if self.narrow else F.linear(x, weight, bias)

    def _joined(self, x: Tensor, straight: Tensor) -> Tensor:
        """What comes straight from the stream ``x``, and in its places what comes through a waist."""
        parts = iter(straight.split([self.heads * width for name, width in self.widths.items() if name not in self.narrow], dim=-1))
        return torch.cat([self.narrow[name](x) if name in self.narrow else next(parts) for name in self.widths], dim=-1)

    def _curve(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z) if self.gates.curve == "sigmoid" else F.hardsigmoid(z)

    def _openness(self, z: Tensor) -> Tensor:
        if self.gates.curve == "sigmoid":
            return torch.sigmoid(z)
        onward = F.relu(z / 6 + 0.5)
        return onward - (onward.detach() - 1).relu()

    def _mean(self, z: Tensor, sums: Tensor | None, clock: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """At each token the mean over the tokens of its step so far; at the step's last token, over the step."""
        sums = z.new_zeros(z.shape[0], z.shape[2]) if sums is None else sums
        if not bool(lengths.any()):
            return z, sums
        layout = Layout(clock % self.every, lengths, self.every)
        running = self._steps(layout.place(z)).cumsum(2)
        first = (torch.arange(running.shape[1]) == (layout.offset // self.every)[:, None]).to(z.device)
        running = running + first[:, :, None, None] * sums[:, None, None, :]
        place = torch.arange(1, self.every + 1, device=z.device, dtype=z.dtype)
        mean = layout.take((running / place[:, None]).flatten(1, 2), z.shape[1])
        over = ((clock + lengths) % self.every == 0).to(z.device)
        last = (layout.end - 1).clamp(min=0)
        left = running.flatten(1, 2)[torch.arange(z.shape[0], device=z.device), last.to(z.device)]
        left = torch.where(over[:, None], torch.zeros_like(left), left)
        return mean, torch.where((lengths > 0).to(z.device)[:, None], left, sums)

    def _attend(self, x: Tensor, logits: Tensor, carried: Tensor | None, clock: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """At each token the mean over the tokens of its step so far, weighed feature by feature by the exponentials of their logits.

        With $L_i$ the logarithm of the weights' sum so far, the mean moves by $e^{l_i - L_i}$ of its way to the i-th token.
        """
        carried = x.new_zeros(x.shape[0], 2 * x.shape[2]) if carried is None else carried
        if not bool(lengths.any()):
            return x, carried
        layout, rows = Layout(clock % self.every, lengths, self.every), torch.arange(x.shape[0], device=x.device)
        alive = torch.arange(x.shape[1]).expand(x.shape[:2]) < lengths[:, None]
        values, heights, alive = (self._steps(layout.place(t.to(x.device))) for t in (x, logits, alive.unsqueeze(-1)))
        under_way = (torch.arange(values.shape[1]) == (layout.offset // self.every)[:, None]) & (clock % self.every > 0)[:, None]
        mean, total = (part[:, None] for part in carried.chunk(2, dim=-1))
        total = torch.where(under_way.to(x.device).unsqueeze(-1), total, -torch.inf)
        means, totals = [], []
        for i in range(self.every):
            new = torch.logaddexp(total, heights[:, :, i])
            moved = mean + torch.exp(heights[:, :, i] - new) * (values[:, :, i] - mean)
            mean, total = torch.where(alive[:, :, i], moved, mean), torch.where(alive[:, :, i], new, total)
            means.append(mean)
            totals.append(total)
        pooled, sums = (torch.stack(parts, dim=2).flatten(1, 2) for parts in (means, totals))
        last = (layout.end - 1).clamp(min=0).to(x.device)
        left = torch.cat([pooled[rows, last], sums[rows, last]], dim=-1)
        done = ((clock + lengths) % self.every == 0).to(x.device)[:, None]
        left = torch.where(done, torch.zeros_like(left), left)
        return layout.take(pooled, x.shape[1]), torch.where((lengths > 0).to(x.device)[:, None], left, carried)

    def _steps(self, grid: Tensor) -> Tensor:
        """Cells [batch, cells, ...] as steps of cells, the last one filled up."""
        missing = -grid.shape[1] % self.every
        return torch.cat([grid, grid.new_zeros(grid.shape[0], missing, *grid.shape[2:])], dim=1).unflatten(1, (-1, self.every))
