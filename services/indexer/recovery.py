"""Unfinished entries: which are taken over when, and which of them is to blame for a failure."""

import time
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

import structlog

from services.indexer.entries import Entry, read_entry
from services.indexer.in_flight import InFlight
from services.indexer.settings import IndexerSettings
from services.indexer.stream import Pending, Stream

log = structlog.get_logger()

# Entries that were delivered this often without being finished are worked on one by one, with
# nothing else in flight: if one of them ends the process again, it alone is to blame.
_SUSPECT_DELIVERIES = 2
# Pending entries that are looked at together, beside those in flight.
_PENDING_PAGE = 100


class Phase(Enum):
    """What is taken over at the moment, and what that means for new entries."""

    INHERITED = "what an earlier life of this consumer left unfinished; nothing new before it"
    INHERITED_BESIDE_NEW = "the same, but some of it waits for a storage: new entries do not"
    ABANDONED = "what any consumer left without a heartbeat, beside new entries"
    NEW = "nothing: no pass over unfinished entries is due"


class TakenOver(NamedTuple):
    entries: list[Entry]
    alone: bool
    """Whether nothing else may be in flight with them."""


class Recovery:
    """Passes over unfinished entries, one after the other.

    What a pass defers is not idle for as long as the pass lasts: each entry has one turn in it,
    however many there are. What others leave meanwhile waits for the next pass.
    """

    def __init__(self, stream: Stream, in_flight: InFlight, settings: IndexerSettings) -> None:
        self.phase = Phase.INHERITED
        self._stream = stream
        self._in_flight = in_flight
        self._takeover_s = settings.takeover_s
        self._max_deliveries = settings.max_deliveries
        # Old entries may wait for a storage as long as it is away: one slot is for new ones.
        self._max_batches = max(settings.in_flight - 1, 1)
        self._pass_started = time.monotonic()
        self._next_pass = self._pass_started
        self._successes = 0
        # Entry -> why it failed here last, and the successes until then.
        self._failures: dict[bytes, tuple[str, int]] = {}

    @property
    def full(self) -> bool:
        """Whether as many recovered batches are in flight as may be."""
        return self._in_flight.recovered >= self._max_batches

    async def take_over(self, max_entries: int) -> TakenOver | None:
        """Some unfinished entries to work on; None if there is no room for them, none is left in
        this pass, or no pass is due."""
        if self.phase is Phase.NEW and time.monotonic() >= self._next_pass:
            self.phase, self._pass_started = Phase.ABANDONED, self._next_pass
        if self.phase is Phase.NEW or self.full:
            return None
        idle_ms = self._idle_ms()
        unfinished = await self._unfinished(idle_ms)
        if not unfinished:
            self.phase = Phase.NEW
            self._next_pass = time.monotonic() + self._takeover_s / 3
            return None
        innocent = [entry for entry in unfinished if entry.deliveries < _SUSPECT_DELIVERIES]
        if innocent:
            return TakenOver(await self._claim(innocent[:max_entries], idle_ms), alone=False)
        await self._in_flight.all_done()
        return TakenOver(await self._claim(unfinished[:1], idle_ms), alone=True)

    def deferred(self) -> None:
        """Some entries wait for a storage that is away."""
        if self.phase is Phase.INHERITED:
            self.phase = Phase.INHERITED_BESIDE_NEW

    def succeeded(self, entries: Sequence[Entry]) -> None:
        self._successes += any(entry.images for entry in entries)
        for entry in entries:
            self._failures.pop(entry.id, None)

    def blames(self, entry: Entry, reason: str) -> bool:
        """Whether the entry is to blame for its failure: only if others succeeded since it failed
        before. Else something that all of them need is broken."""
        blamed = entry.id in self._failures and self._failures[entry.id][1] < self._successes
        self._failures[entry.id] = reason, self._successes
        return blamed

    def _idle_ms(self) -> int:
        """How long an entry has been without a heartbeat that this pass takes over."""
        waited_s = 0 if self.phase is not Phase.ABANDONED else self._takeover_s
        return int(1000 * (time.monotonic() - self._pass_started + waited_s))

    async def _unfinished(self, idle_ms: int) -> list[Pending]:
        in_flight = {entry.id for entry in self._in_flight.entries}
        count = _PENDING_PAGE + len(in_flight)
        pending = (
            await self._stream.abandoned(count, idle_ms)
            if self.phase is Phase.ABANDONED
            else await self._stream.own_pending(count, idle_ms)
        )
        return [entry for entry in pending if entry.id not in in_flight]

    async def _claim(self, chosen: Sequence[Pending], idle_ms: int) -> list[Entry]:
        deliveries = {entry.id: entry.deliveries + 1 for entry in chosen}
        claimed = await self._stream.claim(list(deliveries), idle_ms)
        if claimed:
            log.info("taken_over", entries=len(claimed))
        return [self._redelivered(id_, fields, deliveries[id_]) for id_, fields in claimed]

    def _redelivered(self, id_: bytes, fields: Mapping[bytes, bytes], deliveries: int) -> Entry:
        if deliveries <= self._max_deliveries:
            return read_entry(id_, fields, deliveries)
        # Not even parsed: that may be what ends the process.
        entry = Entry(id_, fields, deliveries)
        last, _ = self._failures.pop(id_, ("the indexer crashed each time", 0))
        entry.reject(
            f"delivered {deliveries - 1} times and never finished ({last}); "
            "push its images again one by one to find the one at fault"
        )
        return entry
