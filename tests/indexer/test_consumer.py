"""The consumer reads in order, stops cleanly and outlasts Redis: nothing is lost or doubled."""

import asyncio

import pytest

from passerby.contract import CONSUMER_GROUP, INGEST_STREAM
from passerby.v1.queue_pb2 import ImageBatch
from tests.support.indexer import Stack
from tests.support.indexer_parts import Indexer, nearest
from tests.support.pictures import picture


async def test_pushing_again_changes_nothing(indexer: Indexer, stack: Stack) -> None:
    for _ in range(2):
        for start in range(0, 30, 10):
            stack.push("people", {f"{i}.png": picture(i) for i in range(start, start + 10)})
        await indexer.index()
    assert stack.rows("people") == 30
    assert stack.names("people") == sorted(f"{i}.png" for i in range(30))
    assert stack.dead_letters() == []


async def test_the_image_pushed_last_under_a_name_wins(indexer: Indexer, stack: Stack) -> None:
    """Within a batch, and over many batches that are in hand at the same time."""
    stack.push("people", {"other": picture(50), "same": picture(0)})
    for number in range(1, 40):
        stack.push("people", {"same": picture(number)})
    batch = ImageBatch(gallery="people")
    for number in (41, 42):
        batch.images.add(filename="same", data=picture(number))
    batch.images.add(filename="same", data=b"broken")
    stack.redis.xadd(INGEST_STREAM, {"batch": batch.SerializeToString()})
    await indexer.index()
    assert stack.rows("people") == 2
    assert await nearest(indexer, "people", picture(42)) == "same"
    assert [letter["filename"] for letter in stack.dead_letters()] == ["same"]


async def test_a_group_that_redis_lost_is_made_again(indexer: Indexer, stack: Stack) -> None:
    stack.push("people", {"1.png": picture(1)})
    async with indexer.running():
        await indexer.drained()
        stack.redis.xgroup_destroy(INGEST_STREAM, CONSUMER_GROUP)
        stack.push("people", {"2.png": picture(2)})
        await indexer.drained()
        stack.redis.delete(INGEST_STREAM)
        stack.push("people", {"3.png": picture(3)})
        await indexer.drained()
    assert stack.rows("people") == 3


async def test_the_consumer_stops_although_a_cancellation_gets_lost(
    indexer: Indexer, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Python 3.11's wait_for loses one that comes just as a command has been sent."""
    read, lost = indexer.stream.read, asyncio.Event()

    async def deaf_once(count: int, block_ms: int | None) -> list[tuple[bytes, dict[bytes, bytes]]]:
        try:
            return await read(count, block_ms)
        except asyncio.CancelledError:
            if lost.is_set():
                raise
            lost.set()
            return []

    monkeypatch.setattr(indexer.stream, "read", deaf_once)
    stack.push("people", {"1.png": picture(1)})
    async with asyncio.timeout(20):
        await indexer.index()
    assert lost.is_set()


async def test_what_is_queued_is_indexed_in_a_redis_that_is_full(
    indexer: Indexer, stack: Stack
) -> None:
    """Or nothing would ever make room in it again."""
    stack.push("people", {f"{i}.png": picture(i) for i in range(5)}, digest=b"d")
    stack.push("people", {"text.png": b"I am a text"})
    try:
        stack.redis.config_set("maxmemory", 1)
        await indexer.index()
    finally:
        stack.redis.config_set("maxmemory", 0)
    assert stack.rows("people") == 5
    assert [letter["filename"] for letter in stack.dead_letters()] == ["text.png"]


async def test_a_redis_that_cannot_write_to_its_disk_is_waited_for(
    indexer: Indexer, stack: Stack
) -> None:
    """It answers MISCONF to whoever would write, and that is reading from a group, too."""
    disk = str(stack.redis.config_get("dir")["dir"])
    gone = stack.folder / "gone"
    gone.mkdir()
    stack.push("people", {"1.png": picture(1)})
    await indexer.stream.make_group()
    try:
        stack.redis.config_set("save", "3600 1")
        stack.redis.config_set("dir", str(gone))
        gone.rmdir()
        stack.redis.bgsave()
        while stack.redis.info("persistence")["rdb_last_bgsave_status"] != "err":
            await asyncio.sleep(0.05)
        async with indexer.running():
            await asyncio.sleep(1)
            assert stack.redis.xlen(INGEST_STREAM) == 1
            stack.redis.config_set("save", "")
            await indexer.drained()
    finally:
        stack.redis.config_set("dir", disk)
        stack.redis.config_set("save", "")
        stack.redis.bgsave()
    assert stack.rows("people") == 1


async def test_a_failover_that_ends_a_blocked_read_does_not_end_the_indexer(
    indexer: Indexer, stack: Stack
) -> None:
    async with indexer.running():
        async with asyncio.timeout(10):
            ended = 0
            while not ended:
                await asyncio.sleep(0.02)
                clients = stack.redis.client_list()
                readers = [client["id"] for client in clients if client["cmd"] == "xreadgroup"]
                ended = sum(stack.redis.client_unblock(int(id_), error=True) for id_ in readers)
        await asyncio.sleep(0.2)
        stack.push("people", {"1.png": picture(1)})
        await indexer.drained()
    assert stack.rows("people") == 1
