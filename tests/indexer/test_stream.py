"""Entries are acknowledged once, with their dead letters, and leave nothing pending."""

import asyncio
import time

from passerby.contract import CONSUMER_GROUP, INGEST_STREAM
from services.indexer.entries import read_entry
from services.indexer.stream import Stream
from tests.support.indexer import Stack
from tests.support.indexer_parts import Indexer
from tests.support.pictures import picture


async def test_an_entry_acknowledged_by_two_indexers_has_its_dead_letter_once(
    indexer: Indexer, stack: Stack
) -> None:
    stack.push("people", {"text.png": b"I am a text", "good.png": picture(1)})
    await indexer.stream.make_group()
    # Another consumer has it in hand for longer than an abandoned entry may be.
    other = Stream(indexer.redis, "other")
    ((entry_id, fields),) = await other.read(1, 10)
    await indexer.index()
    late = read_entry(entry_id, fields, 1)
    late.reject("late")
    await other.ack([late])
    (letter,) = stack.dead_letters()
    assert letter["filename"] == "text.png"
    assert letter["deliveries"] == "2"


async def test_an_entry_deleted_by_hand_does_not_stay_pending(
    indexer: Indexer, stack: Stack
) -> None:
    entry = stack.push("people", {"1.png": picture(1)})
    await indexer.stream.make_group()
    await Stream(indexer.redis, "dead").read(1, 10)
    stack.redis.xdel(INGEST_STREAM, entry)
    async with indexer.running(), asyncio.timeout(10):
        while stack.redis.xpending(INGEST_STREAM, CONSUMER_GROUP)["pending"]:
            await asyncio.sleep(0.05)


async def test_the_backlog_says_how_old_its_oldest_entry_is(indexer: Indexer, stack: Stack) -> None:
    await indexer.stream.make_group()
    assert await indexer.stream.backlog() == (0, 0, 0.0)
    a_minute_ago = int(1000 * (time.time() - 60))
    stack.redis.xadd(INGEST_STREAM, {"batch": b""}, id=f"{a_minute_ago}-0")
    stack.redis.xadd(INGEST_STREAM, {"batch": b""})
    await indexer.stream.read(1, None)
    entries, pending, oldest_s = await indexer.stream.backlog()
    assert (entries, pending) == (2, 1)
    assert 60 <= oldest_s < 90
