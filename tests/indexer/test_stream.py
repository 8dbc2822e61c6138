"""Entries are acknowledged once, with their dead letters, and leave nothing pending."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from passerby.contract import (
    CONSUMER_GROUP,
    DEAD_LETTER_COUNTS,
    DEAD_LETTERS_STREAM,
    INGEST_STREAM,
    DeadLetterEntry,
)
from passerby.v1.queue_pb2 import ImageBatch
from services.gallery.gallery_deletions import Fate, GalleryDeletions
from services.gallery.redis_connection import connect as connect_redis
from services.indexer import stream as stream_module
from services.indexer.entries import Entry, read_entry
from services.indexer.letter_limits import LetterLimits
from services.indexer.retry import CommandFails, retry_command
from services.indexer.stream import Stream
from services.runtime.errors import Unavailable
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


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Any]:
    redis = connect_redis(redis_url, 5)
    yield redis
    await redis.aclose()


async def entry_of(redis: Any, images: dict[str, bytes], consumer: str = "here") -> Entry:
    """Pushes and reads one."""
    batch = ImageBatch(gallery="people")
    for filename, data in images.items():
        batch.images.add(filename=filename, data=data)
    await redis.xadd(INGEST_STREAM, {"batch": batch.SerializeToString()})
    stream = Stream(redis, consumer)
    await stream.make_group()
    ((id_, fields),) = await stream.read(1, 10)
    return read_entry(id_, fields, 1)


async def put_aside(
    redis: Any, images: dict[str, bytes], limits: LetterLimits | None = None
) -> None:
    entry = await entry_of(redis, images)
    for image in entry.images:
        entry.reject_image(image, f"{image.filename}: not an image")
    await Stream(redis, "here", limits).ack([entry])


async def letters(redis: Any) -> list[DeadLetterEntry]:
    return [DeadLetterEntry.from_fields(it) for _, it in await redis.xrange(DEAD_LETTERS_STREAM)]


async def test_a_letter_beyond_its_bytes_keeps_all_else_and_says_so(redis: Any) -> None:
    limits = LetterLimits(letter_bytes=1000)
    await put_aside(redis, {"small.jpg": bytes(900), "large.jpg": bytes(1001)}, limits)
    small, large = await letters(redis)
    assert small.retry_fields
    assert (large.filename, large.gallery, large.retry_fields) == ("large.jpg", "people", {})
    assert re.search(
        r"not an image; its 1,0\d\d bytes were not kept, push it again .*1,000 bytes "
        r"\(set by INDEXER_DEAD_LETTER_BYTES\)",
        large.reason,
    )


async def test_a_folder_of_broken_photographs_does_not_fill_redis(redis: Any) -> None:
    limits = LetterLimits(total_bytes=3_000_000)
    for number in range(20):
        await put_aside(redis, {f"{number}.jpg": bytes(1_000_000)}, limits)
    kept = await letters(redis)
    assert [letter.filename for letter in kept] == [f"{number}.jpg" for number in range(20)]
    assert [bool(letter.retry_fields) for letter in kept] == [True] * 2 + [False] * 18
    assert "set by INDEXER_DEAD_LETTERS_BYTES" in kept[2].reason
    assert await redis.memory_usage(DEAD_LETTERS_STREAM, samples=0) < 3_000_000
    assert await redis.hgetall(DEAD_LETTER_COUNTS) == {b"people": b"20"}


async def test_dead_letters_never_take_more_than_a_quarter_of_redis(redis: Any) -> None:
    await redis.config_set("maxmemory", 12_000_000)
    try:
        for number in range(20):
            await put_aside(redis, {f"{number}.jpg": bytes(1_000_000)})
        assert await redis.memory_usage(DEAD_LETTERS_STREAM, samples=0) < 3_000_000
        assert len(await letters(redis)) == 20
    finally:
        await redis.config_set("maxmemory", 0)


async def test_of_too_many_letters_and_of_old_ones_the_oldest_go(redis: Any) -> None:
    limits = LetterLimits(count=3)
    for number in range(5):
        await put_aside(redis, {f"{number}.jpg": b"x"}, limits)
    assert [letter.filename for letter in await letters(redis)] == ["2.jpg", "3.jpg", "4.jpg"]
    assert await redis.hgetall(DEAD_LETTER_COUNTS) == {b"people": b"3"}
    await asyncio.sleep(0.01)
    await Stream(redis, "here", LetterLimits(age_s=0.001)).tidy()
    assert await letters(redis) == []
    assert await redis.hgetall(DEAD_LETTER_COUNTS) == {}


async def test_letters_are_written_where_their_stream_has_come_to_its_last_id(redis: Any) -> None:
    await redis.xadd(DEAD_LETTERS_STREAM, {"gallery": "g"}, id=f"{2**64 - 1}-{2**64 - 1}")
    await put_aside(redis, {"a.jpg": b"x"})
    assert [letter.gallery for letter in await letters(redis)] == ["g", "people"]


async def test_a_stream_at_its_last_id_is_made_again_and_takes_others(redis: Any) -> None:
    entry = await entry_of(redis, {"a.jpg": b"x"})
    await redis.xadd(INGEST_STREAM, {"json": b"{}"}, id=f"{2**64 - 1}-{2**64 - 1}")
    stream = Stream(redis, "here")
    ((far, _),) = await stream.read(1, 10)
    await stream.tidy()
    await redis.xadd(INGEST_STREAM, {"json": b"{}"})
    assert [pending.id for pending in await stream.own_pending(10)] == [entry.id]
    assert len(await stream.read(10, 10)) == 2
    await stream.ack([Entry(far, {}, 1), entry])
    assert await redis.xlen(INGEST_STREAM) == 2


async def test_a_gallery_deleted_at_the_last_id_takes_what_is_pushed_later(redis: Any) -> None:
    await redis.xadd(INGEST_STREAM, {"json": b"{}"}, id=f"{2**64 - 1}-{2**64 - 1}")
    deletions = GalleryDeletions(redis)
    await deletions.end("people", await deletions.begin("people"))
    entry = await redis.xadd(INGEST_STREAM, {"json": b"{}"})
    assert await deletions.fates([("people", entry)]) == [Fate.INDEX]


async def test_consumers_that_were_away_for_long_are_forgotten_unless_they_have_entries(
    redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await entry_of(redis, {"a.jpg": b"x"}, "busy")
    await Stream(redis, "gone").read(1, None)
    await asyncio.sleep(0.3)
    monkeypatch.setattr(stream_module, "_CONSUMER_AWAY_MS", 200)
    here = Stream(redis, "here")
    await here.read(1, None)
    await here.tidy()
    names = {it["name"] for it in await redis.xinfo_consumers(INGEST_STREAM, CONSUMER_GROUP)}
    # Redis before 7.2 knows of no consumer that was never given anything.
    assert b"busy" in names
    assert b"gone" not in names


async def test_a_command_that_redis_cuts_the_line_on_is_not_repeated_for_ever() -> None:
    attempts = 0

    async def refused() -> None:
        nonlocal attempts
        attempts += 1
        raise Unavailable("Redis cannot be reached") from RedisConnectionError("reset by peer")

    async def well() -> None:
        pass

    with pytest.raises(CommandFails):
        await retry_command(refused, well)
    assert attempts == 5
