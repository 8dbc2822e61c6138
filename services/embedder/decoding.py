"""Image files become pixels in processes of their own, with limits: whatever a file does to its
decoder, it costs its sender that image, and nobody else anything.
"""

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, field
from typing import Self

import structlog

from passerby.limits import Limit
from services.embedder.decoder import Decoder, DecoderDied, Pixels
from services.embedder.decoder_process import Outcome
from services.embedder.images import InvalidImage
from services.runtime.errors import Unavailable

log = structlog.get_logger()

_REJECTED = "that image is rejected (INVALID_ARGUMENT)"
# Of CPU: a busy machine is not the image's fault.
SECONDS = Limit("CPU to decode an image", 10, "seconds", _REJECTED, "EMBEDDER_DECODE_CPU_S")
MEMORY = Limit("memory to decode an image", 1024, "MiB", _REJECTED, "EMBEDDER_DECODE_MEMORY_MIB")
LIMITS = (SECONDS, MEMORY)
MIB = 1 << 20
# All that the usual image takes. What finds it too little waits for the one process that may take
# as much as is allowed: the memory of all together hardly grows with the number of cores.
USUAL_MEMORY_MIB = 192
# More decode faster than any device embeds, and only take memory.
MOST_PROCESSES = 16
ATTEMPTS = 2


@dataclass(order=True)
class _Job:
    bulk: bool
    number: int
    data: bytes = field(compare=False)
    shape: tuple[int, int] = field(compare=False)
    answer: "asyncio.Future[Pixels]" = field(compare=False)
    deaths: int = field(default=0, compare=False)


_Jobs = asyncio.PriorityQueue[_Job]


class Decoders:
    """Processes that decode; within `async with` they run. What is not bulk goes first."""

    def __init__(self, processes: int, *, memory_mib: int, cpu_s: float) -> None:
        """memory_mib, cpu_s: what one image may take, the memory beyond a process's own."""
        self._processes = min(processes, MOST_PROCESSES)
        self._memory_mib, self._cpu_s = memory_mib, cpu_s
        self._usual, self._large = _Jobs(), _Jobs()
        self._numbers = itertools.count()
        self._running = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        group = await self._running.enter_async_context(asyncio.TaskGroup())
        for jobs in [self._usual] * self._processes + [self._large]:
            self._running.callback(group.create_task(self._work_off(jobs)).cancel)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._running.aclose()

    async def decode(self, data: bytes, *, height: int, width: int, bulk: bool = False) -> Pixels:
        """An image file -> (height, width, 3) uint8, as images.decode makes it.

        Raises InvalidImage, also for what exceeds a limit or ends its decoder again and again, and
        Unavailable where no process can be started.
        """
        answer: asyncio.Future[Pixels] = asyncio.get_running_loop().create_future()
        self._usual.put_nowait(_Job(bulk, next(self._numbers), data, (height, width), answer))
        return await answer

    async def _work_off(self, jobs: _Jobs) -> None:
        """With one decoder after the other; only what is large waits for its own to start."""
        memory_mib = self._memory_mib
        if jobs is self._usual:
            memory_mib = min(memory_mib, USUAL_MEMORY_MIB)
        while True:
            if jobs is self._large:
                jobs.put_nowait(await jobs.get())
            try:
                decoder = await Decoder.start(memory_mib * MIB, self._cpu_s)
            except (DecoderDied, OSError) as error:
                log.warning("decoder_does_not_start", reason=str(error))
                if jobs.empty():  # it may start when somebody asks
                    jobs.put_nowait(await jobs.get())
                else:
                    reason = f"the embedder cannot start a process to decode images ({error})"
                    _settle(jobs.get_nowait(), Unavailable(reason))
                continue
            try:
                await self._use(decoder, jobs)
            finally:
                await decoder.end()

    async def _use(self, decoder: Decoder, jobs: _Jobs) -> None:
        """Until it is to be replaced."""
        while not decoder.swollen:
            job = await jobs.get()
            if job.answer.done():  # its caller has left
                continue
            if decoder.ended:  # before it had this image
                jobs.put_nowait(job)
                return
            try:
                result = await decoder.decode(job.data, job.shape)
            except DecoderDied as death:
                self._died(job, jobs, death)
                return
            match result:
                case Outcome.UNDECODABLE | Outcome.NO_MEMORY, _ if jobs is self._usual:
                    self._large.put_nowait(job)
                case Outcome.NO_MEMORY, _:
                    _settle(job, _beyond(MEMORY.at(self._memory_mib)))
                case Outcome(), reason:
                    _settle(job, InvalidImage(reason))
                case pixels:
                    _settle(job, pixels)

    def _died(self, job: _Job, jobs: _Jobs, death: DecoderDied) -> None:
        job.deaths += 1
        log.warning("decoder_died", end=str(death), bytes=len(job.data), times=job.deaths)
        if death.timed_out:
            _settle(job, _beyond(SECONDS.at(self._cpu_s)))
        elif job.deaths < ATTEMPTS:  # others may have ended it, or its earlier images harmed it
            jobs.put_nowait(job)
        else:
            ended = f"ended the process that decoded it {job.deaths} times (the last time {death})"
            _settle(job, InvalidImage(f"{ended}; save it with another program"))


def _beyond(limit: Limit) -> InvalidImage:
    return InvalidImage(f"{limit.exceeded()}; scale it down")


def _settle(job: _Job, result: Pixels | Exception) -> None:
    if job.answer.done():
        return
    if isinstance(result, Exception):
        job.answer.set_exception(result)
    else:
        job.answer.set_result(result)
