"""Reads the queue, at least once each entry: several batches in flight, acknowledged last."""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial

import structlog
from redis.exceptions import ResponseError

from passerby import tracing
from passerby.contract import CONSUMER_GROUP, INGEST_STREAM
from services.gallery.gallery_deletions import Fate, GalleryDeletions
from services.indexer.entries import Entry, read_entry
from services.indexer.in_flight import Batch, InFlight, cancel
from services.indexer.metrics import DEFERRED, QUEUE_ENTRIES, QUEUE_OLDEST, QUEUE_PENDING
from services.indexer.pipeline import Pipeline
from services.indexer.recovery import Phase, Recovery
from services.indexer.retry import retry_command, retry_until_available
from services.indexer.settings import IndexerSettings
from services.indexer.stream import Stream, lost_group
from services.runtime.errors import Unavailable, first_line

log = structlog.get_logger()

_BATCH_BYTES = 32 * 1024 * 1024
# How long a read waits for the first entry, and so how long the start of other work may wait.
_BLOCK_MS = 500
# What a trace says of an entry, in the words of OpenTelemetry.
_PROCESS = {
    "messaging.system": "redis",
    "messaging.destination.name": INGEST_STREAM,
    "messaging.consumer.group.name": CONSUMER_GROUP,
    "messaging.operation.name": "process",
    "messaging.operation.type": "process",
}


class Consumer:
    """One consumer of the group. A batch is what was read at once; each is a task."""

    def __init__(
        self,
        stream: Stream,
        pipeline: Pipeline,
        deletions: GalleryDeletions,
        settings: IndexerSettings,
    ) -> None:
        self._stream = stream
        self._deletions = deletions
        self._pipeline = pipeline
        self._settings = settings
        self._in_flight = InFlight(settings.in_flight)
        self._recovery = Recovery(stream, self._in_flight, settings)
        self._entries_per_batch = 1

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop`, then finishes what is in flight, for as long as draining may take."""
        reading = asyncio.create_task(self._read())
        beating = asyncio.create_task(self._beat())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({reading, beating, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await cancel([reading, stopping])
        await self._in_flight.all_done(self._settings.drain_s)
        unfinished = self._in_flight.entries
        if unfinished:
            log.warning("not_finished", batches=len(self._in_flight), entries=len(unfinished))
        await self._in_flight.cancel()
        await cancel([beating])
        with contextlib.suppress(Unavailable, ResponseError, TimeoutError):
            async with asyncio.timeout(2):
                await self._stream.defer(unfinished)
                rest = await self._stream.own_pending(10_000)
                await self._stream.release([entry.id for entry in rest])
        for task in (reading, beating):
            if not task.cancelled():
                task.result()

    async def _read(self) -> None:
        """Starts batches until cancelled."""
        while True:
            try:
                await self._in_flight.free_slot()
                if taken := await self._recovery.take_over(self._entries_per_batch):
                    self._start(taken.entries, recovered=True)
                    if taken.alone:
                        await self._in_flight.all_done()
                    await self._in_flight.free_slot()
                await self._read_new()
            except Unavailable:
                await asyncio.sleep(0.5)
            except ResponseError as error:
                if not lost_group(error):
                    raise
                log.info("making_group", reason=first_line(error))
                await retry_until_available(self._stream.make_group)

    async def _read_new(self) -> None:
        """Starts a batch of new entries, if they need not wait for those taken over."""
        phase = self._recovery.phase
        if phase is not Phase.INHERITED:
            block_ms = _BLOCK_MS if phase is Phase.NEW else None
            if new := await self._stream.read(self._entries_per_batch, block_ms):
                self._start([read_entry(id_, fields, 1) for id_, fields in new])
                return
        if phase is not Phase.NEW and self._recovery.full:
            await self._in_flight.any_recovered(_BLOCK_MS / 1000)

    def _start(self, entries: list[Entry], *, recovered: bool = False) -> None:
        if entries:
            self._entries_per_batch = entries_per_batch(entries, self._settings.batch_images)
            batch = self._in_flight.batch(entries, recovered=recovered)
            self._in_flight.start(batch, self._work(batch))

    async def _work(self, batch: Batch) -> None:
        """Indexes the batch; if that fails, each entry alone. Whatever fails then stays pending.

        Reading an entry can end this process, so that counted; waiting for others cannot.
        """
        await self._defer(batch.entries)
        single = len(batch.entries) == 1
        if not single and not await self._attempt(batch, batch.entries):
            return
        for entry in batch.entries:
            # As it came: in the failed attempt it may have got dead letters already.
            alone = entry if single else read_entry(entry.id, entry.fields, entry.deliveries)
            reason = await self._attempt(batch, [alone])
            # Left for another delivery, and this one counts only if the entry is to blame.
            if reason and self._recovery.blames(alone, reason):
                await retry_until_available(partial(self._stream.count_delivery, alone))

    async def _attempt(self, batch: Batch, entries: Sequence[Entry]) -> str:
        """Indexes the entries; returns why that failed, or an empty text."""
        try:
            with _traced(entries):
                await self._index(batch, entries)
        except Exception as error:
            reason, first = first_line(error), entries[0].id.decode()
            log.exception("not_indexed", entries=len(entries), first=first, reason=reason)
            return reason
        self._recovery.succeeded([entry for entry in entries if not entry.deferred])
        deferred = [entry for entry in entries if entry.deferred]
        if deferred:
            DEFERRED.inc(len(deferred))
            self._recovery.deferred()
            await self._defer(deferred)  # its turn in this pass is over
        return ""

    async def _index(self, batch: Batch, entries: Sequence[Entry]) -> None:
        """Makes the entries' images searchable, and only then acknowledges."""
        await self._apply_deletions(entries)
        wanted = [entry for entry in entries if not entry.deferred]
        async with contextlib.aclosing(self._pipeline.prepare(wanted)) as parts:
            async for part in parts:
                await batch.earlier_writes()
                await self._pipeline.write(part)
        finished = [entry for entry in entries if not entry.deferred]
        await retry_command(lambda: self._stream.ack(finished), self._stream.ping)

    async def _apply_deletions(self, entries: Sequence[Entry]) -> None:
        """Discards what was deleted with its gallery, and defers what came during a deletion.

        That this is asked while the entries are pending is what a deletion relies on: it waits
        for those that were pending before it began.
        """
        named = [(entry.gallery, entry.id) for entry in entries]
        fates = await retry_until_available(lambda: self._deletions.fates(named))
        for entry, fate in zip(entries, fates, strict=True):
            if fate is Fate.DELETED:
                log.info("deleted_with_gallery", gallery=entry.gallery, entry=entry.id.decode())
                entry.discard()
            elif fate is Fate.WAITS:
                log.warning("gallery_is_being_deleted", gallery=entry.gallery)
                entry.deferred = True

    async def _defer(self, entries: Sequence[Entry]) -> None:
        await retry_until_available(lambda: self._stream.defer(entries))

    async def _beat(self) -> None:
        """Sends heartbeats for what is in flight, and measures the queue, until cancelled."""
        while True:
            try:
                await self._stream.heartbeat(entry.id for entry in self._in_flight.entries)
                backlog = await self._stream.backlog()
                QUEUE_ENTRIES.set(backlog.entries)
                QUEUE_PENDING.set(backlog.pending)
                QUEUE_OLDEST.set(backlog.oldest_s)
                await self._stream.tidy()
            except Unavailable as error:
                log.debug("no_heartbeat", reason=str(error))
            except ResponseError as error:
                if not lost_group(error):
                    raise
            await asyncio.sleep(self._settings.takeover_s / 3)


def entries_per_batch(entries: Sequence[Entry], batch_images: int) -> int:
    """How many entries like these make a batch, by their images and bytes."""
    images = sum(len(entry.images) for entry in entries)
    size = sum(len(value) for entry in entries for value in entry.fields.values())
    fitting = min(
        batch_images * len(entries) // max(images, len(entries)),
        _BATCH_BYTES * len(entries) // max(size, 1),
    )
    return min(max(fitting, 1), batch_images)


def _traced(entries: Sequence[Entry]) -> contextlib.AbstractContextManager[None]:
    """A span of each entry's trace, from now to its acknowledgement."""
    members = [
        (entry.trace_context, {"messaging.message.id": entry.id.decode()}) for entry in entries
    ]
    attributes = _PROCESS | {"messaging.batch.message_count": len(entries)}
    return tracing.batch(f"process {INGEST_STREAM}", "consumer", members, attributes)
