"""The queue in Redis: a consumer group read at least once, with heartbeats and dead letters.

Our own, because libraries that put a queue on a stream (such as taskiq-redis) take entries from
consumers that are alive but slow, count no deliveries, keep no dead letters, and never delete what
is finished.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from passerby.contract import (
    AWAITED,
    CONSUMER_GROUP,
    DEAD_LETTER_COUNTS,
    DEAD_LETTERS_STREAM,
    INGEST_STREAM,
    Outcome,
)
from passerby.queue_scripts import FINISH, MEND, TRIM
from services.gallery.redis_connection import redis_errors
from services.indexer.entries import Entry
from services.indexer.letter_limits import LetterLimits
from services.indexer.metrics import DEAD_LETTERS, DEAD_LETTERS_DROPPED, ENTRIES

log = structlog.get_logger()

# The first command changes nothing, and lets the second pass in a Redis that is full.
_MAKE_GROUP = """
redis.call('XACK', KEYS[1], ARGV[1], '0-0')
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP') then return made end
return 0
"""
# Every pod that ever started leaves one. In one step, as one that comes back may take entries.
_CONSUMER_AWAY_MS = 3_600_000
_REMOVE_CONSUMERS = """
local removed, consumers = 0, redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
for _, consumer in ipairs(consumers) do
  local of = {}
  for i = 1, #consumer, 2 do of[consumer[i]] = consumer[i + 1] end
  if of.pending == 0 and of.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], of.name)
    removed = removed + 1
  end
end
return removed
"""
# How old the first entry is, by the clock that gave it its id; without the entry itself, which may
# be large. Finished entries are deleted.
_AGE_MS = """
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if not first then return 0 end
local now = redis.call('TIME')
return now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(string.match(first[1], '%d+'))
"""


class Backlog(NamedTuple):
    """The queue at one moment."""

    entries: int
    """That are not finished."""
    pending: int
    """Those of them that were delivered."""
    oldest_s: float
    """Since the oldest of them was pushed; 0 without one."""


@dataclass(frozen=True)
class Pending:
    """An entry that was delivered and is not finished."""

    id: bytes
    deliveries: int


class Stream:
    """The consumer group as one of its consumers sees it. Outages of Redis raise Unavailable."""

    def __init__(self, redis: Redis, consumer: str, letters: LetterLimits | None = None) -> None:
        # redis-py's types answer for its blocking and its asynchronous client at once.
        self._redis: Any = redis
        self._letters = letters or LetterLimits()
        self._make_group = redis.register_script(_MAKE_GROUP)
        self._finish = redis.register_script(FINISH)
        self._trim = redis.register_script(TRIM)
        self._mend = redis.register_script(MEND)
        self._remove_consumers = redis.register_script(_REMOVE_CONSUMERS)
        self._age_ms = redis.register_script(_AGE_MS)
        self._consumer = consumer

    async def ping(self) -> None:
        """Raises Unavailable if Redis does not answer."""
        with redis_errors("PING"):
            await self._redis.ping()

    async def make_group(self) -> None:
        """Makes stream and group if they do not exist. From the first entry: finished ones are
        deleted, so whatever the stream holds still has to be done."""
        with redis_errors("XGROUP CREATE"):
            await self._make_group(keys=[INGEST_STREAM], args=[CONSUMER_GROUP])

    async def read(
        self, count: int, block_ms: int | None
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Up to `count` new entries; waits for the first for `block_ms`, or not at all."""
        with redis_errors("XREADGROUP"):
            answer = await self._redis.xreadgroup(
                CONSUMER_GROUP,
                self._consumer,
                {INGEST_STREAM: ">"},
                count=count,
                block=block_ms,
            )
        return _entries(answer)

    async def own_pending(self, count: int, idle_ms: int = 0) -> list[Pending]:
        """What this consumer was given and has not finished, oldest first; only what has had no
        heartbeat for `idle_ms`."""
        return await self._pending(count, idle=idle_ms, consumername=self._consumer)

    async def abandoned(self, count: int, idle_ms: int) -> list[Pending]:
        """What has had no heartbeat of any consumer for `idle_ms`, oldest first."""
        return await self._pending(count, idle=idle_ms)

    async def _pending(self, count: int, **which: Any) -> list[Pending]:
        with redis_errors("XPENDING"):
            answer = await self._redis.xpending_range(
                INGEST_STREAM, CONSUMER_GROUP, min="-", max="+", count=count, **which
            )
        return [Pending(entry["message_id"], entry["times_delivered"]) for entry in answer]

    async def claim(
        self, ids: Sequence[bytes], idle_ms: int
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Takes over those of the entries that are still idle; counts as a delivery."""
        with redis_errors("XCLAIM"):
            answer = await self._redis.xclaim(
                INGEST_STREAM, CONSUMER_GROUP, self._consumer, idle_ms, list(ids)
            )
            taken = [(id_, fields) for id_, fields in answer if id_ is not None]
            if len(taken) < len(answer):
                # Deleted by hand: before Redis 7 its place in the group stays, for ever idle.
                for id_ in set(ids).difference(id_ for id_, _ in taken):
                    if not await self._redis.xrange(INGEST_STREAM, id_, id_):
                        await self._redis.xack(INGEST_STREAM, CONSUMER_GROUP, id_)
        return taken

    async def heartbeat(self, ids: Iterable[bytes]) -> None:
        """Shows that what is in flight is being worked on, so that nobody takes it over."""
        await self._restamp(list(ids), idle=0)

    async def release(self, ids: Iterable[bytes]) -> None:
        """Leaves entries to the consumer that looks for abandoned ones next."""
        await self._restamp(list(ids), idle=24 * 3600 * 1000)

    async def count_delivery(self, entry: Entry) -> None:
        """Leaves an entry for later: it failed."""
        await self._restamp([entry.id], idle=0, retrycount=entry.deliveries)

    async def defer(self, entries: Iterable[Entry]) -> None:
        """Does not count this delivery, whatever becomes of it: the entries did not fail."""
        delivered = defaultdict(list)
        for entry in entries:
            delivered[entry.deliveries].append(entry.id)
        for deliveries, ids in delivered.items():
            await self._restamp(ids, idle=0, retrycount=deliveries - 1)

    async def _restamp(self, ids: list[bytes], **how: int) -> None:
        if ids:
            with redis_errors("XCLAIM"):
                await self._redis.xclaim(
                    INGEST_STREAM, CONSUMER_GROUP, self._consumer, 0, ids, justid=True, **how
                )

    async def ack(self, entries: Iterable[Entry]) -> None:
        """Acknowledges entries, deletes them, writes their dead letters and the receipt of who
        waits for them, each entry in one step."""
        with redis_errors("XACK"):
            for entry in entries:
                letters = [self._letters.arguments(letter) for letter in entry.dead_letters]
                outcome = Outcome.DELETED if entry.discarded else Outcome.DONE
                dropped = await self._finish(
                    keys=[INGEST_STREAM, DEAD_LETTERS_STREAM, DEAD_LETTER_COUNTS, AWAITED],
                    args=[
                        CONSUMER_GROUP,
                        entry.id,
                        outcome,
                        *self._letters.of_all,
                        *itertools.chain.from_iterable(letters),
                    ],
                )
                if dropped >= 0:
                    ENTRIES.inc()
                    DEAD_LETTERS.inc(len(letters))
                    for letter in entry.dead_letters:
                        log.warning(
                            "dead_letter",
                            gallery=letter.gallery,
                            filename=letter.filename,
                            entry=entry.id.decode(),
                            reason=letter.reason,
                        )
                    self._dropped(dropped)

    async def tidy(self) -> None:
        """What is done now and then: dead letters that are too old go, consumers that have been
        away for long are forgotten, and a stream at its last id is made again."""
        with redis_errors("XTRIM"):
            keys = [INGEST_STREAM, DEAD_LETTERS_STREAM, DEAD_LETTER_COUNTS]
            self._dropped(await self._trim(keys=keys, args=list(self._letters.of_all)))
            if await self._mend(keys=[INGEST_STREAM]):
                log.warning("made_stream_again", reason="its last id was the last of all")
            removed = await self._remove_consumers(
                keys=[INGEST_STREAM], args=[CONSUMER_GROUP, _CONSUMER_AWAY_MS]
            )
            if removed:
                log.info("consumers_removed", count=removed)

    def _dropped(self, letters: int) -> None:
        if letters > 0:
            DEAD_LETTERS_DROPPED.inc(letters)
            log.warning("dead_letters_dropped", count=letters, limits=self._letters.said)

    async def backlog(self) -> Backlog:
        with redis_errors("XPENDING"):
            length = await self._redis.xlen(INGEST_STREAM)
            pending = (await self._redis.xpending(INGEST_STREAM, CONSUMER_GROUP))["pending"]
            age_ms = await self._age_ms(keys=[INGEST_STREAM])
        return Backlog(int(length), int(pending), max(0.0, age_ms / 1000))


def lost_group(error: Exception) -> bool:
    """Whether Redis has lost the group, for example because it was flushed."""
    return isinstance(error, ResponseError) and "NOGROUP" in str(error)


def _entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of one stream in XREADGROUP's answer (RESP2: a list, RESP3: a map)."""
    if not answer:
        return []
    if isinstance(answer, Mapping):
        (batches,) = answer.values()
        return [entry for batch in batches for entry in batch]
    ((_, entries),) = answer
    return list(entries)
