"""The estimate of a retrofit's training against the allocator of a real update, and against counts by hand."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen3Config

from retain.retrofit import MemoryConfig, attach, memory_parameters
from retain.training.retrofit.estimate import Plan, known_bases, plan_of
from retain.training.retrofit.sizes import H100, Sizes, Work

WIDTHS = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA = LlamaConfig(num_hidden_layers=4, **WIDTHS)
QWEN = Qwen3Config(num_hidden_layers=4, head_dim=8, tie_word_embeddings=True, **WIDTHS)
LITTLE = Qwen3Config(num_hidden_layers=2, head_dim=8, tie_word_embeddings=True, **WIDTHS)
PAGES = Sizes(rows=16, read=10, asked=1, question=2, answer=2)
PARTS = Sizes(rows=16, read=8, parts=2, asked=2, question=1, answer=2)
TEXT = replace(PAGES, ordinary_rows=12, ordinary_length=15)
SMALL = Sizes(rows=2, read=6, asked=1, question=1, answer=1)
ROOT = Path(__file__).parents[3]
DELTA = {"heads": 2, "preset": "gated_delta_net"}
STEPS = {"heads": 2, "rule": {"update_every": 8, "step_every": 8}}
LAST = MemoryConfig(layers=(-1,), memory=STEPS)
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


def measured(config: PretrainedConfig, memory: MemoryConfig, sizes: Sizes, work: Work) -> tuple[int, int, int]:
    """Of a real update: bytes above the start behind the forward pass and at the peak, by the allocator's own record; and operations."""
    model = real(config, memory, work)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as first:
        loss = sizes.loss(model)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as second:
        loss.backward()
    with FlopCounterMode(display=False) as counter:
        sizes.loss(model).backward()
    live = peak = kept = 0
    for part in (first, second):
        for event in sorted((e for e in part.profiler.kineto_results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()):
            live += event.nbytes()
            peak = max(peak, live)
        kept = kept or live
    return kept, peak, counter.get_total_flops()


def brief(sizes: Sizes = SMALL, base: str | PretrainedConfig = LITTLE, memory: MemoryConfig = LAST, **choices: Any) -> Plan:
    """The plan of an update that reads its rows once."""
    return plan_of(base, memory, sizes, loss=lambda one, model: model(torch.zeros(one.rows, one.read, dtype=torch.long)).logits.mean(), **choices)


@cache
def alone() -> Plan:
    return brief(stages={"first": 30, "second": 70})


def planned(plan: Plan) -> tuple[float, float, float]:
    working = [plan.bytes[kind] for kind in WORKING]
    return sum(working[:3]), sum(working), plan.flops


CASES = [
    (LLAMA, MemoryConfig(memory=STEPS), PARTS, Work(precision="fp32")),
    (LLAMA, MemoryConfig(layers=(1,), memory={"heads": 2}), TEXT, Work(precision="fp32")),
    (QWEN, MemoryConfig(layers=(-3, -1), memory=DELTA, values="embedding"), PAGES, Work()),
    (LITTLE, LAST, PAGES, Work(checkpointing=True)),
]


@pytest.mark.parametrize(("config", "memory", "sizes", "work"), CASES)
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
def test_what_is_kept_the_peak_and_the_operations_are_those_of_a_real_update(
    config: PretrainedConfig, memory: MemoryConfig, sizes: Sizes, work: Work
) -> None:
    kept, peak, flops = planned(plan_of(config, memory, sizes, work=work))
    true_kept, true_peak, true_flops = measured(config, memory, sizes, work)
    assert flops == true_flops
    assert true_peak / 1.15 < peak < 1.15 * true_peak
    slack = 1.5 if work.checkpointing else 1.05  # checkpoints keep the state of the random numbers, 5 kB a layer and call
    assert true_kept / slack < kept < slack * true_kept


def test_parameters_are_those_of_the_real_model() -> None:
    memory = MemoryConfig(memory={**STEPS, "head_dim": 8}, refine=3)
    trained = sum(weight.numel() for weight in memory_parameters(real(LITTLE, memory, Work())))
    base = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(LITTLE).parameters())
    assert brief(replace(SMALL, read=1), memory=memory).parameters == {"base": base, "memory": trained}


@pytest.mark.parametrize(
    ("name", "count"),
    [("Qwen/Qwen3-1.7B", 1_720_574_976), ("Qwen/Qwen3-4B", 4_022_468_096), ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008)],
)
def test_known_bases_have_as_many_parameters_as_their_makers_say(name: str, count: int) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(known_bases()[name])
    assert sum(weight.numel() for weight in model.parameters()) == count


def test_rows_shared_by_processes_are_an_update_of_the_rows_of_one_and_shards_divide_what_stands() -> None:
    one = alone()
    sizes = replace(SMALL, rows=8)
    shards, copies = (brief(sizes, work=Work(processes=4, across=across)) for across in ("shards", "replicas"))
    for kind in WORKING:
        assert shards.bytes[kind] == copies.bytes[kind] == one.bytes[kind]
    for kind in ("base weights", "memory weights", "gradients", "optimizer"):
        assert shards.bytes[kind] == one.bytes[kind] / 4
    assert copies.bytes["gradients"] == 2 * one.bytes["gradients"]  # its own, and the buckets in which they travel
    assert copies.flops == shards.flops == one.flops
    trained = 4 * one.parameters["memory"]
    assert copies.cost["seconds"]["exchange between processes"] == pytest.approx(2 * trained * 3 / 4 / H100.link)


def test_parts_take_the_room_of_one_and_the_time_of_all() -> None:
    one, two = alone(), brief(replace(SMALL, rows=4), work=Work(accumulate=2))
    assert two.bytes == one.bytes
    assert two.flops == 2 * one.flops


def test_what_does_not_fit_is_said_with_rows_that_do() -> None:
    sizes = replace(SMALL, rows=8)
    plan = brief(sizes)
    small = replace(plan, device=replace(H100, memory=0.6 * plan.total_bytes))
    assert (plan.fits, plan.advice, small.fits) == (True, (), False)
    assert "It fits." in str(plan)
    assert "It does not fit." in str(small)
    rows = int(small.advice[0].split()[1])
    assert 1 <= rows < 8
    assert "checkpointing=True" in small.advice
    assert replace(brief(replace(SMALL, rows=rows)), device=small.device).fits


def test_stages_take_their_updates_times_as_long() -> None:
    plan = alone()
    assert plan.total_seconds == pytest.approx(100 * plan.seconds)
    assert plan.tokens_per_second == pytest.approx(SMALL.tokens / plan.seconds)
    assert "| together | 100 |" in str(plan)


def test_a_folder_is_read_and_what_is_not_there_is_refused(tmp_path: Path) -> None:
    LITTLE.save_pretrained(tmp_path)
    assert brief(base=str(tmp_path)).bytes == alone().bytes
    with pytest.raises(ValueError, match="a folder with a config"):
        brief(base=str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="cannot be shared evenly by 3 processes"):
        brief(work=Work(processes=3))


@pytest.mark.parametrize(("name", "machines", "processes"), [("one_h100", 1, 1), ("two_nodes_fsdp2", 2, 16)])
def test_launch_files_are_read_by_accelerate_and_start_processes_only(name: str, machines: int, processes: int) -> None:
    found = load_config_from_file(str(ROOT / "recipes" / "retrofit" / f"{name}.yaml"))
    assert (found.num_machines, found.num_processes, found.mixed_precision) == (machines, processes, "bf16")
    assert str(found.distributed_type.value) == ("NO" if processes == 1 else "MULTI_GPU")
    assert (found.fsdp_config, found.use_cpu) == ({}, False)
