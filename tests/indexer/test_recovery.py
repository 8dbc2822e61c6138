"""Unfinished entries are taken over, in order, and blamed only for what they did."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from passerby.contract import CONSUMER_GROUP, INGEST_STREAM
from passerby.v1.queue_pb2 import ImageBatch
from services.gallery.milvus_connection import MilvusRefused
from services.gallery.vectors import Row
from services.indexer.stream import Stream
from services.runtime.errors import Unavailable
from tests.support import faults
from tests.support.indexer import Stack
from tests.support.indexer_parts import Indexer, nearest
from tests.support.pictures import picture
from tests.support.processes import Service


async def test_an_image_pushed_while_the_indexer_is_away_wins_over_the_one_left_unfinished(
    indexer: Indexer, stack: Stack
) -> None:
    names = [f"{number}.png" for number in range(12)]
    for number, name in enumerate(names):
        stack.push("people", {name: picture(number)})
    await indexer.stream.make_group()
    assert len(await indexer.stream.read(len(names), 10)) == len(names)
    for number, name in reversed(list(enumerate(names))):
        stack.push("people", {name: picture(100 + number)})
    await indexer.index()
    for number, name in enumerate(names):
        assert await nearest(indexer, "people", picture(100 + number)) == name


async def test_entries_of_a_dead_consumer_are_taken_over(indexer: Indexer, stack: Stack) -> None:
    for number in range(5):
        stack.push("people", {f"{number}.png": picture(number)})
    await indexer.stream.make_group()
    assert len(await Stream(indexer.redis, "dead").read(3, 10)) == 3
    assert len(await Stream(indexer.redis, "here").read(1, 10)) == 1  # an earlier life
    await indexer.index()
    assert stack.rows("people") == 5
    assert stack.redis.xpending(INGEST_STREAM, CONSUMER_GROUP)["pending"] == 0


async def test_entries_of_a_live_consumer_are_left_to_it(
    stack: Stack, embedder: Service, indexer: Indexer
) -> None:
    other = Indexer(stack, embedder.address, consumer="other")
    resume = asyncio.Event()

    async def slow(*_: object) -> None:
        await resume.wait()

    faults.before(indexer.embedder.embed, slow)
    await indexer.stream.make_group()
    stack.push("people", {"1.png": picture(1)})
    async with indexer.running():
        while not await indexer.stream.own_pending(1):
            await asyncio.sleep(0.02)
        async with other.running():
            await asyncio.sleep(2.5 * other.settings.takeover_s)
            (pending,) = await indexer.stream.own_pending(10)
            assert pending.deliveries == 0  # neither by others, nor for having waited
            resume.set()
            await indexer.drained()
    assert stack.rows("people") == 1
    await other.close()


async def test_a_poisonous_entry_becomes_a_dead_letter_and_its_neighbours_are_indexed(
    indexer: Indexer, stack: Stack
) -> None:
    """As far as the consumer can tell, whatever holds this image breaks Milvus each time."""

    async def breaking(gallery: str, version: str, rows: Sequence[Row]) -> None:
        if any(row.camera == "poison" for row in rows):
            raise MilvusRefused("broken by poison")

    faults.before(indexer.vectors.upsert, breaking)
    stack.push("people", {"0.png": picture(0)})
    stack.push("people", {"poison.png": picture(99)}, camera="poison")
    for number in range(1, 6):
        stack.push("people", {f"{number}.png": picture(number)})

    async with indexer.running(), asyncio.timeout(60):
        number = 6
        while not stack.dead_letters():  # others succeed meanwhile, or it would not be blamed
            stack.push("people", {f"{number}.png": picture(number)})
            number += 1
            await asyncio.sleep(0.3)
        await indexer.drained()
    (letter,) = stack.dead_letters()
    assert "broken by poison" in letter["reason"]
    assert letter["deliveries"] == "6"
    assert stack.names("people").count("0.png") == 1
    assert stack.rows("people") == number


async def test_an_entry_is_not_blamed_when_nothing_succeeds(indexer: Indexer, stack: Stack) -> None:
    attempts = itertools.count(1)

    async def broken(*_: object) -> None:
        if next(attempts) < 9:
            raise MilvusRefused("broken for everybody")

    faults.before(indexer.vectors.upsert, broken)
    stack.push("people", {"1.png": picture(1)})
    stack.push("people", {"2.png": picture(2)})
    async with indexer.running():
        await indexer.drained(40)
    assert stack.dead_letters() == []
    assert stack.rows("people") == 2


async def test_a_storage_that_is_away_delays_only_its_own_entries(
    indexer: Indexer, stack: Stack
) -> None:
    away = True

    async def reading(*_: object, **__: object) -> None:
        if away:
            raise Unavailable("storage is away")

    faults.before(indexer.sources.read, reading)
    file = stack.folder / "allowed" / "1.png"
    file.write_bytes(picture(1))
    batch = ImageBatch(gallery="people")
    batch.images.add(filename="remote.png", uri=file.as_uri())
    batch.images.add(filename="beside.png", data=picture(2))
    stack.redis.xadd(INGEST_STREAM, {"batch": batch.SerializeToString()})
    for number in range(3, 6):
        stack.push("people", {f"{number}.png": picture(number)})
    async with indexer.running():
        async with asyncio.timeout(20):
            while stack.redis.xlen(INGEST_STREAM) > 1:
                await asyncio.sleep(0.05)
        assert stack.names("people") == ["3.png", "4.png", "5.png"]
        await asyncio.sleep(3)  # a few more deliveries, none of which counts
        away = False
        await indexer.drained()
    assert stack.rows("people") == 5
    assert stack.dead_letters() == []


@pytest.mark.parametrize("consumer", ["dead", "here"])
async def test_new_entries_come_first_while_many_wait_for_their_storage(
    stack: Stack, embedder: Service, consumer: str
) -> None:
    """So many that going through them takes longer than the time after which they are retried;
    each of them still has its turn."""
    indexer = Indexer(stack, embedder.address, batch_images=2)
    asked = set[str]()

    async def away(uri: str, *_: object, **__: object) -> None:
        asked.add(uri)
        raise Unavailable("storage is away")

    faults.before(indexer.sources.read, away)
    for entry in range(60):
        batch = ImageBatch(gallery="people")
        batch.images.add(filename=f"{entry}.png", uri=f"/away/{entry}.png")
        stack.redis.xadd(INGEST_STREAM, {"batch": batch.SerializeToString()})
    await indexer.stream.make_group()
    before = Stream(indexer.redis, consumer)
    await before.release([entry for entry, _ in await before.read(60, 10)])
    async with indexer.running():
        stack.push("people", {"new.png": picture(1)})
        async with asyncio.timeout(5):
            while stack.redis.xlen(INGEST_STREAM) > 60:
                await asyncio.sleep(0.05)
        async with asyncio.timeout(20):
            while len(asked) < 60:
                await asyncio.sleep(0.05)
    assert stack.names("people") == ["new.png"]
    await indexer.close()


async def test_an_entry_that_waits_for_milvus_has_no_delivery_counted_so_its_indexer_may_be_killed(
    stack: Stack, indexer: Indexer
) -> None:
    away, waiting = True, asyncio.Event()

    async def milvus(*_: object) -> None:
        waiting.set()
        if away:
            raise Unavailable("Milvus is away")

    faults.before(indexer.vectors.upsert, milvus)
    await indexer.stream.make_group()
    stack.push("people", {"1.png": picture(1)})
    ((entry, _),) = await Stream(indexer.redis, "killed").read(1, 10)
    # As often as killed indexers may have had it in their hands before they could read it.
    deliveries = indexer.settings.max_deliveries - 1
    stack.redis.xclaim(
        INGEST_STREAM, CONSUMER_GROUP, "killed", 0, [entry], idle=60_000, retrycount=deliveries
    )
    async with indexer.running():
        await asyncio.wait_for(waiting.wait(), 20)
        (pending,) = await indexer.stream.own_pending(10)
        assert pending.deliveries == deliveries
        away = False
        await indexer.drained()
    assert stack.dead_letters() == []


async def test_a_stop_while_milvus_is_away_does_not_count_against_an_entry(
    stack: Stack, embedder: Service
) -> None:
    indexer = Indexer(stack, embedder.address, drain_s=0.1)
    away, waiting = True, asyncio.Event()

    async def milvus(*_: object) -> None:
        waiting.set()
        if away:
            raise Unavailable("Milvus is away")

    faults.before(indexer.vectors.upsert, milvus)
    stack.push("people", {"1.png": picture(1)})
    stack.push("people", {"2.png": picture(2)})
    for _ in range(indexer.settings.max_deliveries + 1):
        waiting.clear()
        async with indexer.running():
            await asyncio.wait_for(waiting.wait(), 10)
    away = False
    await indexer.index()
    assert stack.rows("people") == 2
    assert stack.dead_letters() == []
    await indexer.close()
