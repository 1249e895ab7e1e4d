"""The estimate of a retrofit's training against the allocator of a real update, and against counts by hand."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen3Config

from retain.retrofit import MemoryConfig, attach, memory_parameters
from retain.training.retrofit.estimate import Plan, known_bases, plan_of
from retain.training.retrofit.sizes import H100, Device, Sizes, Work

WIDTHS = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA = LlamaConfig(num_hidden_layers=5, **WIDTHS)
QWEN = Qwen3Config(num_hidden_layers=4, head_dim=8, tie_word_embeddings=True, **WIDTHS)
SIZES = Sizes(rows=4, read=96, parts=2, asked=2, question=6, answer=2, ordinary_rows=2, ordinary_length=40)
DELTA = {"heads": 2, "preset": "gated_delta_net"}
WORKING = (
    "activations of layers",
    "memory states, and what memories keep for the backward pass",
    "embeddings, logits and losses",
    "what comes and goes",
    "attention cache of lower layers",
)


def real(config: PretrainedConfig, memory: MemoryConfig, work: Work):
    dtype = torch.bfloat16 if work.precision == "bf16" else torch.float32
    model = attach(AutoModelForCausalLM.from_config(config, dtype=dtype), memory).train(work.checkpointing)
    if work.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    for weight in memory_parameters(model):
        weight.grad = torch.zeros_like(weight)
    return model


def measured(config: PretrainedConfig, memory: MemoryConfig, work: Work) -> tuple[int, int, int]:
    """Of a real update: bytes above the start behind the forward pass and at the peak, by the allocator's own record; and operations."""
    model = real(config, memory, work)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as first:
        loss = SIZES.loss(model)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as second:
        loss.backward()
    live = peak = kept = 0
    for part in (first, second):
        for event in sorted((e for e in part.profiler.kineto_results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()):
            live += event.nbytes()
            peak = max(peak, live)
        kept = kept or live
    with FlopCounterMode(display=False) as counter:
        SIZES.loss(real(config, memory, work)).backward()
    return kept, peak, counter.get_total_flops()


def planned(plan: Plan) -> tuple[float, float, float]:
    working = [plan.bytes[kind] for kind in WORKING]
    return sum(working[:3]), sum(working), plan.flops


CASES = [
    (LLAMA, MemoryConfig(memory=DELTA), Work(precision="fp32")),
    (LLAMA, MemoryConfig(layers=(2,), memory={"heads": 2}), Work(precision="fp32")),
    (QWEN, MemoryConfig(layers=(-3, -1), memory=DELTA, values="embedding"), Work()),
    (QWEN, MemoryConfig(memory=DELTA), Work(checkpointing=True)),
    (LLAMA, MemoryConfig(layers=(1,), memory={"heads": 2}), Work(precision="fp32", checkpointing=True)),
]


@pytest.mark.parametrize(("config", "memory", "work"), CASES)
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
def test_what_is_kept_the_peak_and_the_operations_are_those_of_a_real_update(config: PretrainedConfig, memory: MemoryConfig, work: Work) -> None:
    found, true = planned(plan_of(config, memory, SIZES, work=work)), measured(config, memory, work)
    print("RATIO", [round(a / b, 4) for a, b in zip(found, true, strict=True)], true)
