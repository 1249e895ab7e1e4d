"""What an update does, operation by operation, found out by doing it with tensors that have sizes but no numbers."""

from __future__ import annotations

import copy
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from retain.core.state import MemoryState
from retain.retrofit import MemoryConfig, attach, branches_of

REST = "rest"
"""What belongs to no layer: embeddings, logits, losses."""


@dataclass(frozen=True)
class Speed:
    """What decides how long one operation takes: the longest of its arithmetic, its traffic with memory, and its start.

    Args:
        half: Operations a second on 16-bit numbers.
        single: On 32-bit ones.
        traffic: Bytes a second that are read and written.
        start: Seconds that starting an operation takes.

    Examples:
        >>> Speed(half=1e15, single=1e14, traffic=1e12, start=1e-5).seconds(1e12, 1e6, single=False)
        0.001
    """

    half: float
    single: float
    traffic: float
    start: float

    def seconds(self, flops: float, moved: float, *, single: bool) -> float:
        """Those of one operation."""
        return max(flops / (self.single if single else self.half), moved / self.traffic, self.start)


@dataclass
class Share:
    """What one part of a model has to do with an update.

    Args:
        kept: Bytes that wait for the backward pass: of the base, and of the memory.
        flops: Forward, of the base and of the memory, and backward; what is computed again counts as backward.
        seconds: Likewise, as ``Speed`` has it.
        launches: Operations.
    """

    kept: Counter[str] = field(default_factory=Counter)
    flops: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    launches: int = 0


@dataclass(frozen=True)
class Traced:
    """An update, done by a small model whose layers stand for several of their kind.

    Args:
        layers: What one layer of each kind has to do with it.
        rest: What is left.
        passing: Bytes above those that are kept, at the worst moment, in the whole model.
    """

    layers: tuple[Share, ...]
    rest: Share
    passing: int


class Ledger(TorchDispatchMode):
    """Writes down, for each operation on tensors without numbers, what it takes, what it leaves in memory, and which part of a model did it."""

    def __init__(self, speed: Speed, counts: Sequence[int]) -> None:
        super().__init__()
        self.speed, self.counts = speed, {REST: 1, **dict(enumerate(counts))}
        self.place: tuple[int | str, str] = (REST, "base")
        self.backward = False
        self.shares: dict[int | str, Share] = {}
        self.live: Counter[tuple[int | str, str]] = Counter()
        self.peak = self.whole_peak = 0
        self._seen: dict[int, tuple[tuple[int | str, str], int]] = {}

    def share(self, place: int | str) -> Share:
        """Of a layer, or of the rest."""
        return self.shares.setdefault(place, Share())

    def whole(self, sizes: Counter[tuple[int | str, str]]) -> int:
        """The sum over all layers that the small model's stand for."""
        return sum(self.counts[where] * size for (where, _), size in sizes.items())

    def known(self, tensors: Sequence[Tensor]) -> None:
        """What was there before and does not count."""
        for tensor in tensors:
            self._seen[tensor.untyped_storage()._cdata] = self.place, 0

    def claimed(self, tensors: Iterable[Tensor], place: tuple[int | str, str]) -> None:
        """What belongs to a part of the model, whoever made it, as rows of a memory's state that are chosen between calls."""
        for tensor in tensors:
            key = tensor.untyped_storage()._cdata
            if key in self._seen:
                before, size = self._seen[key]
                self.live[before] -= size
                self.live[place] += size
                self._seen[key] = place, size

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        results = [t for t in tree_leaves(out) if isinstance(t, FakeTensor)]
        if not results or func.is_view:
            return out
        for result in results:
            self._enter(result)
        count = flop_registry.get(func._overloadpacket)
        flops = 0 if count is None else count(*args, **kwargs, out_val=out)
        moved = sum(t.numel() * t.element_size() for t in [*tree_leaves((args, kwargs)), *results] if isinstance(t, FakeTensor))
        where, what = self.place
        kind, share = "backward" if self.backward else what, self.share(where)
        share.flops[kind] += flops
        share.seconds[kind] += self.speed.seconds(flops, moved, single=results[0].element_size() > 2)
        share.launches += 1
        return out

    def _enter(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size, place = storage._cdata, storage.nbytes(), self.place
        if key in self._seen:
            return
        self._seen[key] = place, size
        self.live[place] += size
        self.peak = max(self.peak, sum(self.live.values()))
        if self.counts[place[0]] == 1:  # what a layer uses for a moment is not used by all layers of its kind at once
            self.whole_peak = max(self.whole_peak, self.whole(self.live))
        weakref.finalize(storage, self._leave, key)

    def _leave(self, key: int) -> None:
        place, size = self._seen.pop(key)
        self.live[place] -= size


def without_numbers(config: PretrainedConfig, memory: MemoryConfig, precision: torch.dtype) -> PreTrainedModel:
    """A model with memories whose weights have sizes and nothing else. They cannot be computed with."""
    with torch.device("meta"):
        return attach(AutoModelForCausalLM.from_config(config, dtype=precision), memory)


def shortened(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The configuration of a model that has so few layers and is otherwise the same."""
    config = copy.deepcopy(config)
    kinds = getattr(config, "layer_types", None)
    config.num_hidden_layers = layers
    if kinds is not None:
        config.layer_types = list(kinds)[:layers]
    return config


def trace(model: PreTrainedModel, loss: Callable[[PreTrainedModel], Tensor], speed: Speed, counts: Sequence[int], *, checkpointing: bool) -> Traced:
    """Do an update with tensors that have sizes only, and write down what it takes.

    Args:
        model: One of ``without_numbers``; it is used up.
        loss: The forward pass. What it makes itself may be real tensors, such as tokens.
        speed: What operations cost.
        counts: How many layers each of the model's stands for.
        checkpointing: Whether layers are computed again in the backward pass.

    Examples:
        >>> from transformers import LlamaConfig
        >>> config = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
        >>> model = without_numbers(config, MemoryConfig(memory={"heads": 2}), torch.float32)
        >>> speed = Speed(half=1e12, single=1e12, traffic=1e10, start=1e-6)
        >>> found = trace(model, lambda model: model(torch.zeros(1, 8, dtype=torch.long)).logits.mean(), speed, (1, 1), checkpointing=False)
        >>> found.rest.flops["base"] == 2 * 8 * 16 * 32, found.layers[0].flops == found.layers[1].flops
        (True, False)
    """
    # Tensors of this mode are computed with outside it, so that the clocks and masks on which engines decide stay real.
    sizes = FakeTensorMode(allow_non_fake_inputs=True)
    _fill(model, sizes)
    model.train(checkpointing)
    if checkpointing:
        switch = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        switch({"use_reentrant": False})
    ledger = Ledger(speed, counts)
    ledger.known([*model.parameters(), *model.buffers(), *(w.grad for w in model.parameters() if w.grad is not None)])
    with _watched(model, ledger), ledger:
        value = loss(model)
        for (where, what), size in ledger.live.items():
            ledger.share(where).kept[what] += size
        kept, whole, ledger.peak = sum(ledger.live.values()), ledger.whole(ledger.live), 0
        ledger.backward = True
        value.backward()
    return Traced(tuple(ledger.share(i) for i in range(len(counts))), ledger.share(REST), max(0, ledger.peak - kept, ledger.whole_peak - whole))


def _fill(model: nn.Module, sizes: FakeTensorMode) -> None:
    """Weights, gradients and buffers of the mode, in place of those on the device that holds none."""

    def empty(like: Tensor) -> Tensor:
        with sizes:
            return torch.empty(like.shape, dtype=like.dtype, device="cpu")

    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is None:
                continue
            if id(weight) not in made:
                made[id(weight)] = nn.Parameter(empty(weight), requires_grad=weight.requires_grad)
                if weight.requires_grad:
                    made[id(weight)].grad = empty(weight)
            module._parameters[name] = made[id(weight)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = empty(buffer)


@contextmanager
def _watched(model: PreTrainedModel, ledger: Ledger) -> Generator[None]:
    """Within, the ledger is told which part of the model is at work, forward and backward."""
    handles = []

    def enters(place: tuple[int | str, str]) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any) -> None:
            ledger.place = place

        return hook

    def leaves(place: tuple[int | str, str], outside: tuple[int | str, str]) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, out: Any) -> None:
            ledger.place = outside
            if isinstance(out, Tensor) and out.requires_grad:
                out.register_hook(lambda _: setattr(ledger, "place", place))

        return hook

    def beside(place: tuple[int | str, str]) -> Callable[..., None]:
        def hook(module: Any, given: Any) -> None:
            before = given[2].before[module.number]
            if before is not None:
                ledger.claimed((tensor for _, tensor in before.tensors()), (place[0], "memory"))
            if given[1].requires_grad:  # behind the memory's own, it is the attention's turn
                given[1].register_hook(lambda _: setattr(ledger, "place", place))

        return hook

    def settled(memory: Any, place: tuple[int | str, str]) -> Any:
        settle = memory.settle

        def placed(state: MemoryState) -> MemoryState:
            ledger.place = place
            after = settle(state)
            ledger.place = (REST, "base")
            for _, tensor in after.tensors():
                if tensor.requires_grad:
                    tensor.register_hook(lambda _: setattr(ledger, "place", place))
            return after

        return placed

    layers: Any = model.get_decoder().layers
    for number, layer in enumerate(layers):
        base, memory = (number, "base"), (number, "memory")
        handles += [layer.register_forward_pre_hook(enters(base)), layer.register_forward_hook(leaves(base, (REST, "base")))]
        for branch in branches_of(layer):
            handles += [branch.register_forward_pre_hook(beside(base)), branch.register_forward_pre_hook(enters(memory))]
            handles.append(branch.register_forward_hook(leaves(memory, base)))
            branch.memory.settle = settled(branch.memory, memory)  # which is called from outside the layer
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for branch in branches_of(model):
            del branch.memory.settle
