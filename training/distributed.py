"""Where a process of a training run computes, alone or as one of several under torchrun."""

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class DistributedContext:
    """A process's device, and which of how many processes it is."""

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def loaders(self) -> int:
        """Processes that prepare batches for this one. A processor that trains has no time to
        spare; a GPU would wait for one that prepares.
        """
        if self.device.type == "cpu":
            return 0
        return min(16, max(1, len(os.sched_getaffinity(0)) // self.world_size - 1))

    def agree(self, number: int) -> int:
        """The first process's number, in every process."""
        if self.world_size == 1:
            return number
        shared = torch.tensor(number, device=self.device)
        torch.distributed.broadcast(shared, src=0)
        return int(shared)


def world_size() -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join(device: torch.device) -> DistributedContext:
    """Under torchrun the process's rank among the others, once all have met; else alone."""
    if world_size() == 1:
        return DistributedContext(device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return DistributedContext(device, torch.distributed.get_rank(), world_size())


def leave(context: DistributedContext) -> None:
    """The end of what `join` began."""
    if context.world_size > 1:
        torch.distributed.destroy_process_group()
