"""What this consumer is working on: a slot for each batch, and the order of writes for one name."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from services.indexer.entries import Entry

Name = tuple[str, str]
"""(gallery, filename)"""


@dataclass(frozen=True, eq=False)
class Batch:
    """Entries that are indexed together."""

    entries: list[Entry]
    names: frozenset[Name]
    earlier: frozenset[asyncio.Task[None]]
    """The batches that were the last to write one of its names."""
    recovered: bool
    """Whether its entries were delivered before and left unfinished."""

    async def earlier_writes(self) -> None:
        """Waits until an image that was pushed twice is written in the order of its pushes."""
        unfinished = [task for task in self.earlier if not task.done()]
        if unfinished:
            await asyncio.wait(unfinished)


class InFlight:
    """The batches that are worked on at the same time, at most `slots` of them."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._batches: dict[asyncio.Task[None], Batch] = {}
        self._last_writer: dict[Name, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def entries(self) -> list[Entry]:
        return [entry for batch in self._batches.values() for entry in batch.entries]

    @property
    def recovered(self) -> int:
        """How many of the batches hold recovered entries."""
        return sum(batch.recovered for batch in self._batches.values())

    def batch(self, entries: list[Entry], *, recovered: bool = False) -> Batch:
        """The next batch, which writes after all that were started before it."""
        names = {(entry.gallery, image.filename) for entry in entries for image in entry.images}
        earlier = {self._last_writer[name] for name in names if name in self._last_writer}
        return Batch(entries, frozenset(names), frozenset(earlier), recovered)

    def start(self, batch: Batch, work: Coroutine[Any, Any, None]) -> None:
        """Has the batch worked on, in a task of its own."""
        task = asyncio.create_task(work)
        self._batches[task] = batch
        self._last_writer.update(dict.fromkeys(batch.names, task))

        def done(task: asyncio.Task[None]) -> None:
            del self._batches[task]
            for name in batch.names:
                if self._last_writer.get(name) is task:
                    del self._last_writer[name]

        task.add_done_callback(done)

    async def free_slot(self) -> None:
        while len(self._batches) >= self._slots:
            await asyncio.wait(self._batches, return_when=asyncio.FIRST_COMPLETED)

    async def any_recovered(self, timeout_s: float) -> None:
        """Waits until one of the recovered batches is done, or for `timeout_s`."""
        tasks = [task for task, batch in self._batches.items() if batch.recovered]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)

    async def all_done(self, timeout_s: float | None = None) -> None:
        """Waits until nothing is in flight, or for `timeout_s`."""
        if self._batches:
            await asyncio.wait(list(self._batches), timeout=timeout_s)

    async def cancel(self) -> None:
        await cancel(list(self._batches))


async def cancel(tasks: Sequence[asyncio.Task[object]]) -> None:
    """Cancels tasks and waits for their end, whatever it is.

    More than once, because Python 3.11's wait_for, through which redis-py sends, drops a
    cancellation that comes just as the sending ends.
    """
    while unfinished := [task for task in tasks if not task.done()]:
        for task in unfinished:
            task.cancel()
        await asyncio.wait(unfinished, timeout=0.1)
    await asyncio.gather(*tasks, return_exceptions=True)
