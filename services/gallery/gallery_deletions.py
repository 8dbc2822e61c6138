"""Galleries that are being deleted, or were: which entries of the queue go with them.

A deletion goes up to the entry that was the queue's last when it began. What was pushed before is
deleted with the gallery; what is pushed later waits until the deletion has ended, or half of it
would be deleted too.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from google.protobuf.message import DecodeError
from redis.asyncio import Redis

from passerby.contract import (
    CONSUMER_GROUP,
    DEFAULT_GALLERY,
    GALLERY_DELETIONS,
    INGEST_STREAM,
)
from passerby.queue_scripts import LAST_ENTRY
from passerby.v1.queue_pb2 import ImageBatch
from services.gallery.redis_connection import redis_errors

# An entry without a heartbeat for so long is worked on by nobody.
_ABANDONED_MS = 60_000
_ENDED = "ended"

# In one step, so that no entry is added in between.
_BEGIN = f"{LAST_ENTRY} redis.call('HSET', KEYS[2], ARGV[1], last) return last"


class Fate(Enum):
    """What a deletion of its gallery means for an entry."""

    INDEX = "nothing"
    DELETED = "it was deleted with its gallery"
    WAITS = "it came after a deletion that has not ended"


@dataclass(frozen=True)
class Deletion:
    """up_to: the id of the last entry that goes with the gallery."""

    up_to: bytes
    ended: bool

    def fate(self, entry_id: bytes) -> Fate:
        if _order(entry_id) <= _order(self.up_to):
            return Fate.DELETED
        return Fate.INDEX if self.ended else Fate.WAITS


class GalleryDeletions:
    """The last deletion of each gallery. Outages of Redis raise Unavailable."""

    def __init__(self, redis: Redis) -> None:
        # redis-py's types answer for its blocking and its asynchronous client at once.
        self._redis: Any = redis
        self._begin = redis.register_script(_BEGIN)

    async def begin(self, gallery: str) -> Deletion:
        """From now on entries of the gallery are not indexed: see Fate."""
        with redis_errors("HSET"):
            last = await self._begin(keys=[INGEST_STREAM, GALLERY_DELETIONS], args=[gallery])
        return Deletion(bytes(last), ended=False)

    async def end(self, gallery: str, deletion: Deletion) -> None:
        """Nothing of the gallery is left: what was pushed since is indexed."""
        with redis_errors("HSET"):
            state = deletion.up_to + b" " + _ENDED.encode()
            await self._redis.hset(GALLERY_DELETIONS, gallery, state)

    async def last(self, gallery: str) -> Deletion | None:
        with redis_errors("HGET"):
            return _deletion(await self._redis.hget(GALLERY_DELETIONS, gallery))

    async def fates(self, entries: Sequence[tuple[str, bytes]]) -> list[Fate]:
        """Of each (gallery, id of the entry), in order."""
        galleries = list(dict.fromkeys(gallery for gallery, _ in entries))
        if not galleries:
            return []
        with redis_errors("HMGET"):
            states = await self._redis.hmget(GALLERY_DELETIONS, galleries)
        deletions = {name: _deletion(state) for name, state in zip(galleries, states, strict=True)}
        return [
            Fate.INDEX if deletion is None else deletion.fate(entry_id)
            for deletion, entry_id in ((deletions[name], id_) for name, id_ in entries)
        ]

    async def in_flight(
        self, gallery: str, deletion: Deletion, known: dict[bytes, str | None]
    ) -> int:
        """Entries of the gallery up to there that an indexer is working on.

        known: entry -> its gallery, from one call to the next; starts empty.
        """
        with redis_errors("XPENDING"):
            if not await self._redis.exists(INGEST_STREAM):
                return 0
            groups = await self._redis.xinfo_groups(INGEST_STREAM)
            if CONSUMER_GROUP.encode() not in {group["name"] for group in groups}:
                return 0
            pending = await self._redis.xpending_range(
                INGEST_STREAM, CONSUMER_GROUP, min="-", max=deletion.up_to, count=10_000
            )
            alive = [
                entry["message_id"]
                for entry in pending
                if entry["time_since_delivered"] < _ABANDONED_MS
            ]
            for entry_id in set(alive) - set(known):
                # One after the other: an entry may have many megabytes.
                found = await self._redis.xrange(INGEST_STREAM, entry_id, entry_id)
                known[entry_id] = _gallery_of(found[0][1]) if found else None
        return sum(known[entry_id] == gallery for entry_id in alive)


def _deletion(state: bytes | None) -> Deletion | None:
    if state is None:
        return None
    up_to, _, ended = state.partition(b" ")
    return Deletion(up_to, ended == _ENDED.encode())


def _order(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number)


def _gallery_of(fields: Mapping[bytes, bytes]) -> str | None:
    """None for an entry that is not a batch, and so of no gallery."""
    try:
        if b"json" in fields:
            name = json.loads(fields[b"json"]).get("gallery")
        else:
            name = ImageBatch.FromString(fields.get(b"batch", b"")).gallery
    except (DecodeError, ValueError, AttributeError):
        return None
    return name or DEFAULT_GALLERY
