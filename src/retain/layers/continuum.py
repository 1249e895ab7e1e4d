"""The Continuum Memory System: MLPs that go on learning while they read, each at its own frequency."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from retain.core.called import called_as
from retain.core.errors import StateMismatch
from retain.core.shapes import Clock, RowMask, Stream
from retain.core.trees import placed, under

from .level import Level, LevelMLP

Form = Literal["sequential", "nested", "independent"]


class ContinuumMemory(nn.Module):
    r"""$y_t = \mathrm{MLP}^{(f_k)}(\dots \mathrm{MLP}^{(f_1)}(x_t))$, where level $\ell$ takes a step after every $C^{(\ell)}$ tokens of the stream.

    $\theta^{(\ell)}_{i+1} = \theta^{(\ell)}_i - \mathbb 1[i \equiv 0 \bmod C^{(\ell)}] \sum_{t=i-C^{(\ell)}+1}^{i} \eta^{(\ell)} \nabla L_t$ for gradient descent;
    $L$ is the loss of the task, so it is the caller who takes its gradient::

        weights = memory.weights(state)
        loss = ...  # made of memory(x, state), summed over tokens
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        state = memory.learn(state, dict(zip(weights, gradients)), tokens)

    The steps are differentiable: an outer loss behind them reaches the slow weights from which every stream starts. A state is a flat mapping of tensors,
    rows first, that goes in and comes out. Rows never touch each other.

    Symbols: ``levels`` $\ell$ in the order in which tokens pass them, in the paper's figure the fastest first; ``Level.every`` $C^{(\ell)}$;
    ``frequencies`` $f_\ell$. Source: Nested Learning equations 70 to 74 and 97.

    Args:
        dim: Width of the stream.
        hidden: Width inside each level.
        levels: How each level learns. Each period must be a multiple of the shorter ones.
        form: ``"sequential"`` (equation 73); ``"nested"`` (72), where a level is back at its start whenever the next slower one has taken a step;
            ``"independent"`` (74; the paper says head-wise, too), where all levels read $x_t$ and a learnt weighted sum of their answers is added to it.

    Raises:
        ValueError: There is no level, or levels do not fit each other or the form.

    Examples:
        >>> memory = ContinuumMemory(8, 16, levels=(Level(every=4), Level(every=16), Level(every=0)))
        >>> memory.frequencies
        (4, 1, 0)
        >>> x, state = torch.randn(2, 4, 8), memory.start(2)
        >>> weights = memory.weights(state)
        >>> gradients = torch.autograd.grad(memory(x, state).square().sum(), list(weights.values()))
        >>> after = memory.learn(state, dict(zip(weights, gradients)), torch.tensor([4, 3]))
        >>> after["tokens"].tolist(), (after["0/weights/up"] != state["0/weights/up"]).any(2).any(1).tolist()
        ([4, 3], [True, False])
    """

    def __init__(self, dim: int, hidden: int, *, levels: Sequence[Level], form: Form = "sequential") -> None:
        super().__init__()
        _check(levels, form)
        self.dim, self.levels, self.form = dim, tuple(levels), form
        self.blocks = nn.ModuleList(LevelMLP(level, dim, hidden) for level in levels)
        self.mix = nn.Parameter(torch.full((len(levels),), 1 / len(levels))) if form == "independent" else None
        periods = sorted(level.every for level in levels if level.every)
        self.fastest = periods[0] if periods else 0
        self.contexts = {level.every: min((p for p in periods if p > level.every), default=0) for level in levels if form == "nested"}
        self._paths = frozenset(self.start(0))

    @property
    def frequencies(self) -> tuple[int, ...]:
        r"""$f_\ell = \max_i C^{(i)} / C^{(\ell)}$, the updates of each level in one period of the slowest; 0 for a level that never changes."""
        longest = max(level.every for level in self.levels)
        return tuple(longest // level.every if level.every else 0 for level in self.levels)

    def start(self, batch: int) -> dict[str, Tensor]:
        """The state before the first token of ``batch`` streams.

        ``tokens`` counts, on the host, what each row has read; ``0/weights/up`` are a level's weights in each row, which start as the slow ones;
        ``0/sums/up`` are the gradients of its unfinished period, and ``0/optimizer/up/...`` what its optimizer keeps. Levels that never change keep nothing.
        """
        state = {"tokens": torch.zeros(batch, dtype=torch.long, device="cpu")}
        for place, _, block in self._moving():
            state |= placed(block.start(batch), place)
        return state

    def forward(self, x: Stream, state: Mapping[str, Tensor] | None = None) -> Stream:
        """What the levels make of the tokens, each on its own, with the weights in ``state``; with the slow ones if there is none.

        Raises:
            StateMismatch: The state is that of another memory, or has other rows.
        """
        if x.shape[-1] != self.dim:
            raise ValueError(f"this ContinuumMemory reads a stream of width {self.dim}, got x of shape {list(x.shape)}.")
        if state is not None:
            self._check_state(state, len(x))
        kept = [under(state or {}, f"{i}/") for i in range(len(self.levels))]
        if self.mix is not None:
            answers = [block(x, own) for block, own in zip(self.blocks, kept, strict=True)]
            y = sum((share * answer for share, answer in zip(self.mix.to(x.dtype), answers, strict=True)), torch.zeros_like(x))
            return x + y if self.levels[0].around == "residual" else y
        for level, block, own in zip(self.levels, self.blocks, kept, strict=True):
            y = block(x, own)
            x = x + y if level.around == "residual" else y
        return x

    if TYPE_CHECKING:

        @called_as(forward)
        def __call__(self, *given: Any, **named: Any) -> Any: ...

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights in ``state`` with respect to which the caller takes the gradient of the loss."""
        return {path: part for path, part in state.items() if path.split("/")[1:2] == ["weights"]}

    def room(self, state: Mapping[str, Tensor]) -> Clock:
        """How many tokens each row may read before some level takes a step; the largest integer if none ever does."""
        read = state["tokens"].cpu()
        return self.fastest - read % self.fastest if self.fastest else torch.full_like(read, torch.iinfo(read.dtype).max)

    def learn(self, state: Mapping[str, Tensor], gradients: Mapping[str, Tensor], tokens: Clock) -> dict[str, Tensor]:
        """The state after ``tokens`` more tokens of each row, whose gradients were all taken at the weights in ``state``.

        A level whose period is complete takes its step along the sum of the gradients of exactly that period's tokens, counted from the start of the stream.
        Rows that complete none only add to their sums; rows of no tokens stay as they are. The weights that come back are new nodes of the graph: the
        gradient with respect to one of them holds all others still, though a fast level has learnt through a slow one.

        Args:
            state: What to go on from.
            gradients: Those of the loss, summed over the tokens of a row, by the names of ``weights``.
            tokens: How many tokens each row has read since; at most ``room``.

        Raises:
            StateMismatch: The state is that of another memory, or has other rows.
            ValueError: Gradients are missing or misshapen, or a row has read past the end of a period.
        """
        tokens = tokens.cpu()
        self._check_state(state, len(tokens))
        self._check_lesson(state, gradients, tokens)
        read, reading = state["tokens"].cpu() + tokens, tokens > 0
        after = {"tokens": read}
        for place, level, block in self._moving():
            context = self.contexts.get(level.every, 0)
            over = reading & (read % context == 0) if context else torch.zeros_like(reading)
            due = reading & (read % level.every == 0) & ~over
            kept = block.add(under(state, place), under(gradients, f"{place}weights/"), reading)
            kept = _on_rows(block.step, kept, due)
            kept = _on_rows(lambda part, block=block: block.start(len(part["weights/up"])), kept, over)
            after |= placed(kept, place)
        return after | {path: part.view_as(part) for path, part in self.weights(after).items()}

    def _moving(self) -> Iterator[tuple[str, Level, LevelMLP]]:
        """The levels that change, with the places of what they keep."""
        for i, block in enumerate(self.blocks):
            assert isinstance(block, LevelMLP)
            if block.level.every:
                yield f"{i}/", block.level, block

    def _check_state(self, state: Mapping[str, Tensor], rows: int) -> None:
        if state.keys() != self._paths:
            raise StateMismatch(
                f"the state is not one of this memory's: {_differ(self._paths, state)}. Start one with start(batch), or take what learn gave back."
            )
        if len(state["tokens"]) != rows:
            raise StateMismatch(f"the state has {len(state['tokens'])} rows and the input {rows}. Choose rows of every tensor, or start a state.")

    def _check_lesson(self, state: Mapping[str, Tensor], gradients: Mapping[str, Tensor], tokens: Tensor) -> None:
        weights = self.weights(state)
        if gradients.keys() != weights.keys():
            raise ValueError(f"gradients must have the names of weights(state): {_differ(weights, gradients)}.")
        for path, gradient in gradients.items():
            if gradient.shape != weights[path].shape:
                raise ValueError(
                    f"the gradient of {path!r} must have the shape {list(weights[path].shape)} of the weight, got {list(gradient.shape)}."
                )
        room = self.room(state)
        if bool((tokens < 0).any()) or bool((tokens > room).any()):
            raise ValueError(
                f"rows may read {room.tolist()} tokens before a level changes, got {tokens.tolist()}; gradients of tokens behind an update must be taken "
                "at the weights behind it. Cut the stream where room(state) says."
            )


def _check(levels: Sequence[Level], form: Form) -> None:
    if form not in get_args(Form):
        raise ValueError(f"form must be 'sequential', 'nested' or 'independent', got {form!r}.")
    if not levels:
        raise ValueError("a ContinuumMemory needs at least one level; Level(every=0) is an ordinary MLP.")
    periods = sorted(level.every for level in levels if level.every)
    for fast, slow in pairwise(periods):
        if slow % fast:
            raise ValueError(f"each period must be a multiple of the shorter ones, got {periods}: {fast} does not divide {slow}.")
        if form == "nested" and fast == slow:
            raise ValueError(
                f"nested levels need periods of their own, got {periods}: a level of the same period as the next would start anew at each step."
            )
    if form == "independent" and len({level.around for level in levels}) > 1:
        raise ValueError("independent levels are added up, so either all or none of them are 'residual'; give all the same Level.around.")


def _differ(expected: Iterable[str], got: Iterable[str]) -> str:
    missing, unknown = sorted(set(expected) - set(got)), sorted(set(got) - set(expected))
    return f"missing {missing[:4]}, unknown {unknown[:4]}"


def _on_rows(function: Callable[[Mapping[str, Tensor]], dict[str, Tensor]], kept: dict[str, Tensor], rows: RowMask) -> dict[str, Tensor]:
    """``function`` of what is kept of those rows; not a bit of the others is touched."""
    if not bool(rows.any()):
        return kept
    if bool(rows.all()):
        return function(kept)
    index = rows.nonzero()[:, 0]
    changed = function({path: part[index.to(part.device)] for path, part in kept.items()})
    return {path: part.index_copy(0, index.to(part.device), changed[path]) for path, part in kept.items()}
