"""Training in several processes: torch's own data parallel, which stops at a parameter that took no part."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from retain import NeuralMemory
from tests.tolerances import assert_near


def _layer() -> NeuralMemory:
    torch.manual_seed(0)
    return NeuralMemory(8, heads=2).double()


def _stream(rank: int) -> torch.Tensor:
    return torch.randn(2, 70, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(rank))


def _train(rank: int, folder: str) -> None:
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the machine's own name need not resolve
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    memory = DistributedDataParallel(_layer())  # which would wait for ever for a gradient that never comes
    for _ in range(2):
        memory.zero_grad()
        memory(_stream(rank))[0].square().mean().backward()
    if rank == 0:
        torch.save({name: weight.grad for name, weight in memory.module.named_parameters()}, f"{folder}/gradients.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    mp.spawn(_train, args=(str(tmp_path),), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    memory = _layer()
    sum(memory(_stream(rank))[0].square().mean() / 2 for rank in range(2)).backward()  # pyright: ignore[reportAttributeAccessIssue]
    found = torch.load(tmp_path / "gradients.pt", weights_only=True)
    for name, weight in memory.named_parameters():
        assert weight.grad is not None
        assert_near(found[name], weight.grad, what=name)
