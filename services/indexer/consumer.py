"""Reads the queue: several batches in hand, nothing lost when this process or another one dies."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence

import structlog
from redis.exceptions import ResponseError

from services.indexer.entries import Entry, read_entry
from services.indexer.metrics import POSTPONED, QUEUE_ENTRIES, QUEUE_PENDING
from services.indexer.pipeline import Pipeline
from services.indexer.retry import retry_until_available
from services.indexer.settings import IndexerSettings
from services.indexer.stream import Pending, Stream, lost_group
from services.runtime.errors import Unavailable, first_line

log = structlog.get_logger()

_BATCH_BYTES = 32 * 1024 * 1024
# How long a read waits for the first entry, and so how long the start of other work may wait.
_BLOCK_MS = 500
# Entries that were delivered this often without being finished are worked on one by one, with
# nothing else in hand: if one of them ends the process again, it alone is to blame.
_SUSPECT_DELIVERIES = 2
_LOOK = 100


class Consumer:
    """One consumer of the group. A batch is what was read at once; each is a task."""

    def __init__(self, stream: Stream, pipeline: Pipeline, settings: IndexerSettings) -> None:
        self._stream = stream
        self._pipeline = pipeline
        self._batch_images = settings.batch_images
        self._in_flight = settings.in_flight
        self._takeover_s = settings.takeover_s
        self._max_deliveries = settings.max_deliveries
        self._drain_s = settings.drain_s
        self._tasks: set[asyncio.Task[None]] = set()
        # Those of the tasks that work on what was left unfinished before.
        self._taken_over: set[asyncio.Task[None]] = set()
        self._in_hand: dict[bytes, Entry] = {}
        # (gallery, filename) -> the batch that writes it last.
        self._writers: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._successes = 0
        # Whether entries had to be postponed, because the storage of their images is away.
        self._postponed = False
        # Entry -> why it failed here last, and the successes until then.
        self._failures: dict[bytes, tuple[str, int]] = {}
        # Entries that make a batch, judged by those that were read last.
        self._count = 1

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop`, then finishes what is in hand, for as long as draining may take."""
        reading = asyncio.create_task(self._read_on())
        keeping = asyncio.create_task(self._keep())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({reading, keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await _cancel([reading, stopping])
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._drain_s)
        if self._tasks:
            log.warning("not_finished", batches=len(self._tasks), entries=len(self._in_hand))
        unfinished = list(self._in_hand.values())
        await _cancel([*self._tasks, keeping])
        with contextlib.suppress(Unavailable, ResponseError, TimeoutError):
            async with asyncio.timeout(2):
                await self._stream.postpone(unfinished)
                rest = await self._stream.own_pending(10_000)
                await self._stream.release([entry.id for entry in rest])
        for task in (reading, keeping):
            if not task.cancelled():
                task.result()

    async def _read_on(self) -> None:
        """Starts batches, for ever."""
        inherited = True  # what an earlier life of this consumer left is looked for first
        # Start of the pass over what was left unfinished; lies ahead while none is due.
        pass_at = time.monotonic()
        # Old entries may wait for a storage as long as it is away: one batch is for new ones.
        most = max(self._in_flight - 1, 1)
        while True:
            try:
                await self._free_slot()
                passing = time.monotonic() >= pass_at
                if passing and len(self._taken_over) < most:
                    passing = await self._recover(pass_at, inherited=inherited)
                    if not passing:
                        inherited = False
                        pass_at = time.monotonic() + self._takeover_s / 3
                    await self._free_slot()
                # What was pushed again meanwhile is written after what an earlier life left, unless
                # that waits for a storage.
                in_order = passing and inherited and not self._postponed
                if not in_order and (
                    new := await self._stream.read(self._count, None if passing else _BLOCK_MS)
                ):
                    self._start([read_entry(id_, fields, 1) for id_, fields in new])
                elif passing and len(self._taken_over) >= most:
                    await asyncio.wait(
                        self._taken_over,
                        timeout=_BLOCK_MS / 1000,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
            except Unavailable:
                await asyncio.sleep(0.5)
            except ResponseError as error:
                if not lost_group(error):
                    raise
                log.info("making_group", reason=first_line(error))
                await retry_until_available(self._stream.make_group)

    async def _free_slot(self) -> None:
        while len(self._tasks) >= self._in_flight:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def _recover(self, pass_at: float, *, inherited: bool) -> bool:
        """Starts some of what was left unfinished when the pass began; whether there was any.

        What this pass has postponed is not idle for as long as the pass lasts: each entry has one
        turn in it, however many there are. What others leave meanwhile waits for the next pass.
        """
        idle_s = time.monotonic() - pass_at + (0 if inherited else self._takeover_s)
        idle_ms = int(idle_s * 1000)
        count = _LOOK + len(self._in_hand)
        found = (
            await self._stream.own_pending(count, idle_ms)
            if inherited
            else await self._stream.abandoned(count, idle_ms)
        )
        left = [entry for entry in found if entry.id not in self._in_hand]
        if not left:
            return False
        innocent = [entry for entry in left if entry.deliveries < _SUSPECT_DELIVERIES]
        if innocent:
            await self._take_over(innocent[: self._count], idle_ms)
        else:
            if self._tasks:
                await asyncio.wait(self._tasks)
            await self._take_over(left[:1], idle_ms)
            if self._tasks:
                await asyncio.wait(self._tasks)
        return True

    async def _take_over(self, chosen: Sequence[Pending], idle_ms: int) -> None:
        deliveries = {entry.id: entry.deliveries + 1 for entry in chosen}
        claimed = await self._stream.claim(list(deliveries), idle_ms)
        if claimed:
            log.info("taken_over", entries=len(claimed))
            entries = [self._redelivered(id_, f, deliveries[id_]) for id_, f in claimed]
            task = self._start(entries)
            self._taken_over.add(task)
            task.add_done_callback(self._taken_over.discard)

    def _redelivered(self, id_: bytes, fields: Mapping[bytes, bytes], deliveries: int) -> Entry:
        if deliveries <= self._max_deliveries:
            return read_entry(id_, fields, deliveries)
        # Not even parsed: that may be what ends the process.
        entry = Entry(id_, fields, deliveries)
        last, _ = self._failures.pop(id_, ("it ended the indexer each time", 0))
        entry.refuse(
            f"delivered {deliveries - 1} times and never finished ({last}); "
            "push its images again one by one to find the one at fault"
        )
        return entry

    def _start(self, entries: list[Entry]) -> asyncio.Task[None]:
        images = sum(len(entry.images) for entry in entries)
        size = sum(len(value) for entry in entries for value in entry.fields.values())
        fitting = min(
            self._batch_images * len(entries) // max(images, len(entries)),
            _BATCH_BYTES * len(entries) // max(size, 1),
        )
        self._count = min(max(fitting, 1), self._batch_images)
        names = {(entry.gallery, image.filename) for entry in entries for image in entry.images}
        before = {self._writers[name] for name in names if name in self._writers}
        task = asyncio.create_task(self._work(entries, before))
        self._in_hand.update((entry.id, entry) for entry in entries)
        self._tasks.add(task)
        self._writers.update(dict.fromkeys(names, task))

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            for entry in entries:
                self._in_hand.pop(entry.id, None)
            for name in names:
                if self._writers.get(name) is task:
                    del self._writers[name]

        task.add_done_callback(done)
        return task

    async def _work(self, entries: list[Entry], before: Iterable[asyncio.Task[None]]) -> None:
        """Indexes the entries and takes them off the stream; whatever fails stays pending."""

        async def turn() -> None:
            earlier = [task for task in before if not task.done()]
            if earlier:
                await asyncio.wait(earlier)

        try:
            finished = await self._pipeline.index(entries, turn)
            await retry_until_available(lambda: self._stream.finish(finished))
        except Exception as error:
            if len(entries) == 1:
                log.exception("entry_failed", entry=entries[0].id.decode())
                await self._set_aside(entries[0], first_line(error))
                return
            log.warning("batch_failed", entries=len(entries), reason=first_line(error))
            for entry in entries:
                await self._work([read_entry(entry.id, entry.fields, entry.deliveries)], before)
        else:
            self._successes += any(entry.images for entry in finished)
            for entry in finished:
                self._failures.pop(entry.id, None)
            ended = {entry.id for entry in finished}
            postponed = [entry for entry in entries if entry.id not in ended]
            POSTPONED.inc(len(postponed))
            self._postponed |= bool(postponed)
            await retry_until_available(lambda: self._stream.postpone(postponed))

    async def _set_aside(self, entry: Entry, reason: str) -> None:
        """Leaves a failed entry for another delivery. It is blamed, in that the delivery counts,
        only if others succeeded since it failed before: else something that all need is broken."""
        blamed = entry.id in self._failures and self._failures[entry.id][1] < self._successes
        self._failures[entry.id] = reason, self._successes
        if not blamed:
            await retry_until_available(lambda: self._stream.postpone([entry]))

    async def _keep(self) -> None:
        """Tells the group that what is in hand is worked on, and the metrics how much there is."""
        while True:
            try:
                await self._stream.keep(self._in_hand)
                length, pending = await self._stream.lengths()
                QUEUE_ENTRIES.set(length)
                QUEUE_PENDING.set(pending)
            except Unavailable as error:
                log.debug("no_sign_of_life", reason=str(error))
            except ResponseError as error:
                if not lost_group(error):
                    raise
            await asyncio.sleep(self._takeover_s / 3)


async def _cancel(tasks: Sequence[asyncio.Task[object]] | Sequence[asyncio.Task[None]]) -> None:
    # More than once, because Python 3.11's wait_for, through which redis-py sends, drops a
    # cancellation that comes just as the sending ends.
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=0.1)
    await asyncio.gather(*tasks, return_exceptions=True)
