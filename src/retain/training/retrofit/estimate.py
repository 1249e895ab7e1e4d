"""What training a memory beside a pretrained model will take, before anything of it is loaded."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, LlamaConfig, PretrainedConfig, PreTrainedModel, Qwen3Config

from retain.evaluation.result import table
from retain.retrofit import MemoryConfig, memory_parameters

from .sizes import H100, Device, Sizes, Work
from .traced import REST, Share, Traced, shortened, trace, without_numbers

GB = 1e9
ROOM = 0.9
"""The share of a device's memory that tensors may fill; the rest is the allocator's waste, and the libraries'."""
STANDING = ("base weights", "memory weights", "gradients", "optimizer", "layers gathered from shards")
"""What does not depend on how much is read at once."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a training will take: an estimate.

    Args:
        base: The pretrained model.
        sizes: Of an update.
        work: How it is done.
        device: On what.
        parameters: Of the base, and of its memories, which are what is trained.
        bytes: On each device, by what they are for, at the worst moment.
        cost: Of an update on each device: operations (``flops``) and seconds, by what they are for, and ``launches``.
        stages: Updates of each stage.

    Examples:
        >>> from transformers import LlamaConfig
        >>> tiny = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
        >>> plan = plan_of(tiny, MemoryConfig(layers=(1,), memory={"heads": 2}), Sizes(rows=2, read=8, asked=1), stages={"facts": 100})
        >>> plan.fits, plan.parameters["base"], round(plan.total_seconds / plan.seconds)
        (True, 4688, 100)
    """

    base: str
    sizes: Sizes
    work: Work
    device: Device
    parameters: Mapping[str, int]
    bytes: Mapping[str, float]
    cost: Mapping[str, Mapping[str, float]]
    stages: Mapping[str, int] = field(default_factory=dict)

    @property
    def total_bytes(self) -> float:
        """On each device."""
        return sum(self.bytes.values())

    @property
    def fits(self) -> bool:
        """Whether that leaves the room that a device needs."""
        return self.total_bytes <= ROOM * self.device.memory

    @property
    def flops(self) -> float:
        """Operations of an update, on each device."""
        return sum(self.cost["flops"].values())

    @property
    def seconds(self) -> float:
        """Of an update, the exchange between processes behind the rest."""
        return sum(self.cost["seconds"].values())

    @property
    def total_seconds(self) -> float:
        """Of all stages."""
        return self.seconds * sum(self.stages.values())

    @property
    def tokens_per_second(self) -> float:
        """Of all processes together."""
        return self.sizes.tokens / self.seconds

    @property
    def advice(self) -> tuple[str, ...]:
        """What to change if it does not fit; empty if it does."""
        if self.fits:
            return ()
        standing = sum(size for kind, size in self.bytes.items() if kind in STANDING)
        rows = max(1, self.sizes.rows // (self.work.processes * self.work.accumulate))
        fit = math.floor(rows * (ROOM * self.device.memory - standing) / max(1.0, self.total_bytes - standing))
        found = []
        if fit >= 1:
            parts = math.ceil(rows / fit)
            found.append(f"read {fit} rows at once, not {rows}: accumulate={self.work.accumulate * parts} for the same update, or rows fewer")
        else:
            found.append("make pages shorter, or ask fewer questions: not even one row fits")
        if not self.work.checkpointing:
            found.append("checkpointing=True")
        if self.work.across == "replicas" and standing > 0.3 * self.device.memory:
            found.append(f"shards over {max(2, self.work.processes)} processes or more")
        return (*found, "memories in fewer layers, or smaller ones")

    def markdown(self) -> str:
        """The plan as tables."""
        one, work, cost = self.sizes, self.work, self.cost
        shared = f"{work.processes} x {self.device.name}" + (f", {work.across}" if work.processes > 1 else "")
        reads = f"{one.rows} pages of {one.read:,} tokens in {one.parts}, {one.asked} questions each of {one.question} + {one.answer}"
        text = f", {one.ordinary_rows} x {one.ordinary_length:,} tokens of ordinary text" if one.ordinary_rows else ""
        how = f"{work.precision}, {'with' if work.checkpointing else 'without'} checkpointing" + (
            f", in {work.accumulate} parts" if work.accumulate > 1 else ""
        )
        head = f"**{self.base}** on {shared}: {reads}{text}; {how}.\n{self.parameters['base']:,} parameters stay, {self.parameters['memory']:,} are trained."
        kinds = [[kind, f"{size / GB:.2f}"] for kind, size in self.bytes.items() if size]
        kinds.append(["together", f"{self.total_bytes / GB:.2f}"])
        kinds.append([f"{self.device.name} has", f"{self.device.memory / GB:.2f}"])
        times = [
            [kind, f"{cost['flops'].get(kind, 0) / 1e12:.2f}", f"{seconds:.2f}"]
            for kind, seconds in cost["seconds"].items()
            if seconds or cost["flops"].get(kind, 0)
        ]
        times.append(["an update", f"{self.flops / 1e12:.2f}", f"{self.seconds:.2f}"])
        verdict = "It fits." if self.fits else "It does not fit. Cure, one of: " + "; ".join(self.advice) + "."
        lines = [
            head,
            table(["memory, each device", "GB"], kinds),
            verdict,
            table(["time, each device", "TFLOP", "s"], times),
            f"{self.tokens_per_second:,.0f} tokens/s, {sum(cost['launches'].values()):,.0f} operations an update, at {self.device.utilisation:.0%} of the best speed.",
        ]
        if self.stages:
            stages = [[name, f"{steps:,}", f"{steps * self.seconds / 3600:.2f}"] for name, steps in self.stages.items()]
            lines.append(
                table(["stage", "updates", "h"], [*stages, ["together", f"{sum(self.stages.values()):,}", f"{self.total_seconds / 3600:.2f}"]])
            )
        return "\n\n".join(lines)

    def __str__(self) -> str:
        return self.markdown()


def plan_of(
    base: str | PretrainedConfig,
    memory: MemoryConfig | None = None,
    sizes: Sizes | None = None,
    *,
    work: Work | None = None,
    device: Device = H100,
    stages: Mapping[str, int] | None = None,
    loss: Callable[[Sizes, PreTrainedModel], Tensor] = Sizes.loss,
) -> Plan:
    """What training memories beside a base will take. No weights are loaded.

    Parameters are counted exactly. For the rest, an update of one process is done on tensors that have sizes but no numbers, by a model of the same widths with
    one layer of each kind: below all memories, with the first of them, with a further one, with none, with the last, and above them all. Bytes, operations
    and times are then added up over as many layers of each kind as the base has.

    Args:
        base: A configuration, a folder with one, or a name: that of ``known_bases``, or one that the hub or its cache knows.
        memory: Which layers, and what memories.
        sizes: Of an update.
        work: How it is done.
        device: On what.
        stages: Updates of each stage.
        loss: The forward pass of an update of these sizes, if it is another.

    Raises:
        ValueError: There is no such base, it is of a family that is not known, or the rows cannot be shared.

    Examples:
        >>> tiny = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
        >>> plan = plan_of(tiny, MemoryConfig(layers=(1,), memory={"heads": 2}), Sizes(rows=1, read=8, asked=1), work=Work(precision="fp32"))
        >>> plan.bytes["optimizer"] == 8 * plan.parameters["memory"]
        True
    """
    memory, sizes, work = memory or MemoryConfig(), sizes or Sizes(), work or Work()
    name, config = (base, config_of(base)) if isinstance(base, str) else (base.model_type, base)
    one, precision = sizes.of_one(work.processes, work.accumulate), torch.bfloat16 if work.precision == "bf16" else torch.float32
    whole = without_numbers(config, memory, precision)
    trained = sum(weight.numel() for weight in memory_parameters(whole))
    parameters = {"base": sum(weight.numel() for weight in whole.parameters()) - trained, "memory": trained}

    kinds = _kinds(config, memory)
    few = [kind for kind, count in kinds.items() if count]
    places = tuple(i for i, kind in enumerate(few) if kind in ("first", "further", "last"))
    small = without_numbers(shortened(config, len(few)), replace(memory, layers=places), precision)
    traced = trace(small, lambda model: loss(one, model), device.speed, [kinds[kind] for kind in few], checkpointing=work.checkpointing)
    shares = dict(zip(few, traced.layers, strict=True))

    below = 0 if work.checkpointing else kinds["below"] * _attended(one) * _cache_bytes(config, precision.itemsize)
    found = {**_standing(whole, parameters, work, precision.itemsize), **_working(shares, kinds, traced), "attention cache of lower layers": below}
    step = 28 * trained / (work.processes if work.across == "shards" else 1) / device.speed.traffic  # seven numbers a weight, read or written
    return Plan(
        base=name,
        sizes=sizes,
        work=work,
        device=device,
        parameters=parameters,
        bytes=found,
        cost=_cost(shares, kinds, traced, work, {"optimizer": step, "exchange between processes": _exchange(whole, parameters, one, work, device)}),
        stages=stages or {},
    )


def known_bases() -> dict[str, PretrainedConfig]:
    """Configurations that need not be looked up."""
    qwen: dict[str, Any] = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True}
    return {
        "Qwen/Qwen3-1.7B": Qwen3Config(hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, num_attention_heads=16, **qwen),
        "Qwen/Qwen3-4B": Qwen3Config(hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32, **qwen),
        "HuggingFaceTB/SmolLM2-135M-Instruct": LlamaConfig(
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            head_dim=64,
            vocab_size=49152,
            tie_word_embeddings=True,
        ),
    }


def config_of(name: str) -> PretrainedConfig:
    """The configuration of a base: one of ``known_bases``, of a folder, or of the hub or its cache.

    Raises:
        ValueError: There is none.

    Examples:
        >>> config_of("Qwen/Qwen3-1.7B").num_hidden_layers
        28
    """
    known = known_bases()
    if name in known:
        return known[name]
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"there is no configuration of {name!r} in a folder of that name, in the hub's cache or on the hub. Cure: one of {', '.join(known)}, or a folder "
            "with a config.json."
        ) from error


def _kinds(config: PretrainedConfig, memory: MemoryConfig) -> dict[str, int]:
    """How many layers there are of each kind, in the order in which one of each stands in the small model.

    Of a page that is read, nothing but states goes on, so that layers above the last memory have no part in its backward pass, nor has what that memory said.
    """
    count = config.num_hidden_layers
    places = memory.places(count)
    lowest, highest, amount = places[0], places[-1], len(places)
    between = highest - lowest + 1 - amount
    return {
        "below": lowest,
        "first": 1,
        "further": max(0, amount - 2),
        "between": between,
        "last": min(1, amount - 1),
        "above": count - 1 - highest,
    }


def _attended(sizes: Sizes) -> int:
    """Tokens of the call with the most of them."""
    return max(sizes.rows * (math.ceil(sizes.read / sizes.parts) + 1), sizes.rows * sizes.asked * (sizes.question + sizes.answer + 1))


def _cache_bytes(config: PretrainedConfig, item: int) -> int:
    """What attention keeps of a token in one layer."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_key_value_heads * width * item


def _bytes_of(module: nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in module.parameters())


def _standing(model: PreTrainedModel, parameters: Mapping[str, int], work: Work, item: int) -> dict[str, float]:
    """What is there all the time, on each device."""
    parts, trained, gathered = 1, 4 * parameters["memory"], 0
    if work.processes > 1 and work.across == "shards":
        layers: Any = model.get_decoder().layers
        each = [_bytes_of(layer) for layer in layers]
        parts, gathered = work.processes, 2 * max(each) + _bytes_of(model) - sum(each)  # the next is fetched while one is at work
    buckets = 2 if work.processes > 1 and work.across == "replicas" else 1
    found = (item * parameters["base"] / parts, trained / parts, buckets * trained / parts, 2 * trained / parts, float(gathered))
    return dict(zip(STANDING, found, strict=True))


def _working(shares: Mapping[str, Share], kinds: Mapping[str, int], traced: Traced) -> dict[str, float]:
    """What depends on how much is read."""
    kept: Counter[str] = Counter()
    for kind, share in shares.items():
        for what, size in share.kept.items():
            kept[what] += kinds[kind] * size
    return {
        "activations of layers": kept["base"],
        "memory states, and what memories keep for the backward pass": kept["memory"],
        "embeddings, logits and losses": sum(traced.rest.kept.values()),
        "what comes and goes": traced.passing,
    }


def _cost(
    shares: Mapping[str, Share], kinds: Mapping[str, int], traced: Traced, work: Work, other: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    names = {"base": "base, forward", "memory": "memories, forward", "backward": "backward"}
    flops, seconds, launches = Counter[str](), defaultdict[str, float](float), Counter[str]()
    for kind, share in [*shares.items(), (REST, traced.rest)]:
        count = work.accumulate * kinds.get(kind, 1)
        for what, name in names.items():
            called = "embeddings, logits and losses" if kind == REST else name
            flops[called] += count * share.flops[what]
            seconds[called] += count * share.seconds[what]
        launches["layers" if kind in kinds else REST] += count * share.launches
    return {"flops": dict(flops), "seconds": {**seconds, **other}, "launches": dict(launches)}


def _exchange(model: PreTrainedModel, parameters: Mapping[str, int], sizes: Sizes, work: Work, device: Device) -> float:
    """Seconds, as if nothing else were done meanwhile."""
    if work.processes == 1:
        return 0.0
    trained = 4 * parameters["memory"]
    if work.across == "replicas":
        moved = 2 * trained
    else:
        moved = work.accumulate * (
            2 * sizes.calls * _bytes_of(model) + trained
        )  # gathered in the forward pass of each call, and again in the backward pass
    return moved * (work.processes - 1) / work.processes / device.link
