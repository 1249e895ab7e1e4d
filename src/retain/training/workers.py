"""The processes of a training: one alone, or several under torchrun."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Workers:
    """Who takes part. Each process reads its share of an update's rows, and all of them take the same step.

    Examples:
        >>> Workers.present().rows(4)
        range(0, 4)
    """

    rank: int
    count: int
    device: torch.device

    @classmethod
    def present(cls, device: Literal["cuda", "cpu"] | None = None) -> Workers:
        """Those that torchrun started, or this process alone; unless it is said, the device is a GPU where there is one.

        Raises:
            ValueError: It is to be a GPU, and there is none.
        """
        cuda = torch.cuda.is_available() if device is None else device == "cuda"
        if cuda and not torch.cuda.is_available():
            raise ValueError("there is no GPU that torch can use. Cure: device='cpu', or none at all.")
        if "RANK" not in os.environ:
            return cls(0, 1, torch.device("cuda" if cuda else "cpu"))
        if not dist.is_initialized():
            dist.init_process_group("nccl" if cuda else "gloo")
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if cuda:
            torch.cuda.set_device(local)
        return cls(dist.get_rank(), dist.get_world_size(), torch.device("cuda", local) if cuda else torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def rows(self, count: int) -> range:
        """This process's share of ``count`` rows.

        Raises:
            ValueError: The rows cannot be shared evenly.
        """
        if count % self.count:
            raise ValueError(f"{count} rows cannot be shared evenly by {self.count} processes; make Reading.rows / accumulate a multiple of that.")
        each = count // self.count
        return range(self.rank * each, (self.rank + 1) * each)

    def spread(self, objective: nn.Module, how: Literal["replicas", "shards"], units: Iterable[nn.Module]) -> nn.Module:
        """The module as all processes train it together: each with a copy (DDP), or each with a part of every weight (FSDP2).

        Args:
            objective: The module.
            how: Which of the two.
            units: The modules whose weights are gathered from their parts together, just for them; inner ones before those that hold them.
        """
        if self.count == 1:
            return objective
        if how == "replicas":
            return DistributedDataParallel(objective, find_unused_parameters=True)  # a share of rows may hold nothing that is asked
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.type, (self.count,))
        for module in units:
            fully_shard(module, mesh=mesh)
        fully_shard(objective, mesh=mesh)
        return objective

    @contextlib.contextmanager
    def waiting(self, module: nn.Module, more: bool) -> Generator[None]:
        """Where gradients are not exchanged yet, since ``more`` parts of the update follow."""
        if more and isinstance(module, DistributedDataParallel):
            with module.no_sync():
                yield
        else:
            yield

    def total(self, *numbers: Tensor) -> list[float]:
        """Each number summed over all processes."""
        sums = torch.stack([number.detach().double() for number in numbers])
        if self.count > 1:
            dist.all_reduce(sums)
        return sums.tolist()

    def together(self) -> None:
        """Go on when all have come this far."""
        if self.count > 1:
            dist.barrier()


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may lie in parts on several processes, all of it on each."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, other: Any) -> Tensor:
    """``tensor`` in parts as ``other`` lies in parts."""
    if isinstance(other, DTensor) and tensor.shape == other.shape:
        return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
    return tensor
