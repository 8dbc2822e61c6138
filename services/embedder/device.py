"""The device that computes: which one it is, and the threads that take turns on it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import torch
from prometheus_client import Gauge

GPU_MEMORY = Gauge(
    "passerby_embedder_gpu_memory_bytes",
    "Memory of the GPU: used (by anybody), total.",
    ["kind"],
)


class NoSuchDevice(Exception):
    """The operator's fault: this machine does not have the device that was asked for."""


def choose_device(wanted: str) -> torch.device:
    """auto, cpu, cuda or cuda:<number> -> the device. Raises NoSuchDevice."""
    count = torch.cuda.device_count()
    if wanted == "auto":
        wanted = "cuda" if count else "cpu"
    if wanted == "cpu":
        return torch.device("cpu")
    number = int(wanted.partition(":")[2] or 0)
    if number >= count:
        found = f"{count} CUDA devices" if count else "no CUDA device"
        raise NoSuchDevice(
            f"EMBEDDER_DEVICE={wanted}: PyTorch {torch.__version__} finds {found} here; "
            f"take auto or cpu, or give the process a GPU and its driver"
        )
    return torch.device("cuda", number)


def measure_memory(device: torch.device) -> None:
    """Has /metrics show the memory of a GPU, as it is whenever somebody asks."""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        GPU_MEMORY.labels("total").set(total)
        GPU_MEMORY.labels("used").set_function(lambda: total - torch.cuda.mem_get_info(device)[0])


class Turns:
    """So many at once; first come first, but whoever has only bulk waits for those who have not."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}

    async def acquire(self, is_bulk: Callable[[], bool]) -> None:
        """is_bulk: whether the caller's next work is, asked when a turn becomes free."""
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = is_bulk
        try:
            await turn
        except asyncio.CancelledError:
            if not self._waiting.pop(turn, None):  # the turn came too late
                self.release()
            raise

    def release(self) -> None:
        if not self._waiting:
            self._free += 1
            return
        turn = min(self._waiting, key=lambda turn: self._waiting[turn]())
        del self._waiting[turn]
        turn.set_result(None)


class Device:
    """Threads that compute, each on a batch of its own. Batchers take turns.

    A GPU has one thread. On CPUs there is one for each core and none within a forward pass:
    threads that share a pass wait for each other at every layer, and where anything else runs on
    their cores, passes took 10 to 100 times as long.
    """

    out_of_memory = (torch.OutOfMemoryError, MemoryError)
    """What a forward pass raises when its batch is too large for the device."""

    def __init__(self, threads: int) -> None:
        self.threads = ThreadPoolExecutor(
            threads, "device", initializer=torch.set_num_threads, initargs=(1,)
        )
        self.turns = Turns(threads)
        self.passes_at_once = threads

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Waits for what the threads compute. The event loop goes on meanwhile: loading a model
        cannot be cut short, but a second signal must be heard.
        """
        await asyncio.to_thread(self.threads.shutdown)
