"""Training memories in two processes: copies that share their gradients (accelerate), and weights that lie in shards (FSDP2)."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from retain.retrofit import MemoryCache, branches_of, detach, memory_parameters
from tests.tolerances import assert_near

from .models import base, open_gates, opened, shut, words

TOKENS = words(4, 10)


def _loss(model: Any, tokens: Tensor, config: Any) -> Tensor:
    """Two segments, attention cut off between them."""
    cache, total = MemoryCache(config), torch.zeros(())
    for part in tokens.split(5, dim=1):
        out = model(input_ids=part, past_key_values=cache.memories_only())
        cache, total = out.past_key_values, total + F.cross_entropy(out.logits[:, :-1].flatten(0, 1), part[:, 1:].flatten())
    return total


def _half_precision() -> Any:
    model = shut(base(dtype=torch.bfloat16), layers=(0, 2))
    open_gates(model)
    return model


MODELS = {"exact": lambda: opened(layers=(0, 2)), "checkpointed": lambda: opened(layers=(0, 2)), "bfloat16": _half_precision}


def _work(rank: int, folder: str) -> None:
    """All that two processes do here, since to begin takes them longest."""
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the machine's own name need not resolve
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT="29511")  # asked for, not used
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    tokens = TOKENS[2 * rank : 2 * rank + 2]
    found = {"copies": _copies(tokens), **{kind: _shards(kind, tokens) for kind in MODELS}}
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")
    dist.destroy_process_group()


def _copies(tokens: Tensor) -> dict[str, Tensor]:
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    plain = opened(layers=(0, 2))
    model, _ = accelerator.prepare(plain, torch.optim.SGD(memory_parameters(plain), lr=0.1))
    accelerator.backward(_loss(model, tokens, plain.config))
    return {name: weight.grad for name, weight in plain.named_parameters() if weight.grad is not None}


def _shards(kind: str, tokens: Tensor) -> dict[str, Tensor]:
    model, mesh = MODELS[kind](), init_device_mesh("cpu", (2,))
    if kind == "checkpointed":
        model.train().activation_checkpointing_enable()
    for branch in branches_of(model):
        fully_shard(branch, mesh=mesh)  # by themselves, since the weights of a unit are of one type
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    losses, gradients = _steps(model, tokens)
    dist.all_reduce(losses)
    with pytest.raises(ValueError, match="other classes since attach"):
        detach(model)
    return {"losses": losses / 2, **{name: grad.full_tensor() if isinstance(grad, DTensor) else grad for name, grad in gradients.items()}}


def _steps(model: Any, tokens: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The losses of two steps, and the gradients of the first."""
    weights = list(memory_parameters(model))
    optimizer, losses, gradients = torch.optim.SGD(weights, lr=0.1), [], {}
    for _ in range(2):
        optimizer.zero_grad()
        loss = _loss(model, tokens, model.config)
        loss.backward()
        gradients = gradients or {str(i): weight.grad.clone() for i, weight in enumerate(weights) if weight.grad is not None}
        optimizer.step()
        losses.append(loss.detach().double())
    return torch.stack(losses), gradients


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(_work, args=(str(folder),), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    return torch.load(folder / "found.pt", weights_only=True)


@pytest.mark.slow
def test_two_copies_have_the_gradients_of_one_process(found: dict[str, dict[str, Tensor]]) -> None:
    model = opened(layers=(0, 2))
    _loss(model, TOKENS, model.config).backward()
    assert found["copies"].keys() == {name for name, weight in model.named_parameters() if weight.requires_grad}
    for name, slope in found["copies"].items():
        expected = model.get_parameter(name).grad
        assert expected is not None
        assert_near(slope, expected, what=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_two_processes_with_a_part_of_each_weight_learn_as_one(found: dict[str, dict[str, Tensor]], kind: str) -> None:
    model, mine = MODELS[kind](), dict(found[kind])
    losses, gradients = _steps(model, TOKENS)
    assert {weight.dtype for weight in memory_parameters(model)} == {torch.float32 if kind == "bfloat16" else torch.float64}
    assert_near(mine.pop("losses"), losses, {torch.float64: 1e-2 if kind == "bfloat16" else 1e-9})
    assert mine.keys() == gradients.keys()
    for name, slope in gradients.items():
        assert_near(mine[name], slope, {torch.float64: 1e-9, torch.float32: 3e-2}, name)
