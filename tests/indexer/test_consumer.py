"""Entries become rows and names, or dead letters: each once, in order, whatever fails."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from redis.asyncio import Redis

from passerby.contract import CONSUMER_GROUP, INGEST_STREAM
from passerby.v1 import embedder_pb2
from passerby.v1.embedder_pb2 import EmbedImagesRequest
from passerby.v1.queue_pb2 import ImageBatch
from services.gallery.milvus_connection import MilvusRefused
from services.gallery.names import Names
from services.gallery.redis_connection import connect as connect_redis
from services.gallery.vectors import Row, Vectors
from services.indexer import pipeline
from services.indexer.consumer import Consumer
from services.indexer.embedding import ImageEmbedder
from services.indexer.entries import read_entry
from services.indexer.pipeline import Pipeline
from services.indexer.settings import IndexerSettings
from services.indexer.sources import READS_AT_ONCE, Sources
from services.indexer.stream import Stream
from services.runtime.embedder_client import EmbedderClient, Embedding
from services.runtime.errors import Unavailable
from services.runtime.grpc_client import connect
from tests.indexer.conftest import Service, Stack, make_model, picture


class Indexer:
    """An indexer's parts in this process, so that a test may reach between them."""

    def __init__(self, stack: Stack, embedder: str, **settings: object) -> None:
        self.settings = IndexerSettings(
            **{"takeover_s": 1, "consumer": "here", "max_image_bytes": 100_000} | settings
        )
        url = stack.indexer.environment["REDIS_URL"]
        self.redis: Redis = connect_redis(url, timeout_s=5)
        self.vectors = Vectors(stack.indexer.environment["MILVUS_URI"])
        self.names = Names(self.redis)
        self.channel = connect(embedder)
        self.embedder = ImageEmbedder(EmbedderClient(self.channel), timeout_s=30)
        self.sources = Sources([str(stack.folder / "allowed")], self.settings.max_image_bytes)
        self.stream = Stream(self.redis, self.settings.consumer)

    async def close(self) -> None:
        await self.channel.close()
        await self.vectors.close()
        await self.redis.aclose()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        pipeline = Pipeline(
            self.sources,
            self.embedder,
            self.names,
            self.vectors,
            None,
            self.settings.max_image_bytes,
        )
        stop = asyncio.Event()
        work = asyncio.create_task(Consumer(self.stream, pipeline, self.settings).run(stop))
        try:
            yield
        finally:
            stop.set()
            await work

    async def drained(self, timeout_s: float = 30) -> None:
        async with asyncio.timeout(timeout_s):
            while await self.redis.xlen(INGEST_STREAM):
                await asyncio.sleep(0.02)

    async def index(self) -> None:
        async with self.running():
            await self.drained()


@pytest.fixture(scope="module")
def new_embedder(
    model_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Prefers another model, and still serves the one that `embedder` has."""
    successor = tmp_path_factory.mktemp("model") / "successor"
    make_model(successor, seed=2)
    models = f"{successor},{model_directory}"
    service = Service("embedder", {"EMBEDDER_MODELS": models, "EMBEDDER_THREADS": "1"})
    service.start()
    yield service
    service.end()


@pytest.fixture
async def indexer(stack: Stack, embedder: Service) -> AsyncIterator[Indexer]:
    indexer = Indexer(stack, embedder.address)
    yield indexer
    await indexer.close()


async def nearest(indexer: Indexer, gallery: str, data: bytes) -> str | None:
    """The filename of the gallery's image that looks most like this one."""
    (result,) = await indexer.embedder.embed([data])
    assert isinstance(result, Embedding)
    (match,) = await indexer.vectors.search(gallery, result.vector, top_k=1)
    assert match.score > 0.9999
    (name,) = await indexer.names.filenames_of(gallery, [match.id])
    return name


async def test_pushing_again_changes_nothing(indexer: Indexer, stack: Stack) -> None:
    for _ in range(2):
        for start in range(0, 30, 10):
            stack.push("people", {f"{i}.png": picture(i) for i in range(start, start + 10)})
        await indexer.index()
    assert stack.rows("people") == 30
    assert stack.names("people") == sorted(f"{i}.png" for i in range(30))
    assert stack.letters() == []


async def test_all_that_was_pushed_is_kept(indexer: Indexer, stack: Stack) -> None:
    batch = {
        "gallery": "people",
        "images": [
            {
                "filename": "gate/1.png",
                "uri": (stack.folder / "allowed" / "1.png").as_uri(),
                "camera": "gate",
                "capturedAt": "2026-05-01T12:00:00.000123Z",
                "tags": {"floor [1]": "ground"},
            }
        ],
    }
    (stack.folder / "allowed" / "1.png").write_bytes(picture(1))
    stack.redis.xadd(INGEST_STREAM, {"json": json.dumps(batch)})
    await indexer.index()
    (match,) = await indexer.vectors.search("people", np.ones(16, np.float32), top_k=5)
    assert (match.camera, match.tags) == ("gate", {"floor [1]": "ground"})
    assert match.captured_at_us == 1_777_636_800_000_123
    assert await nearest(indexer, "people", picture(1)) == "gate/1.png"


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
    assert [letter["filename"] for letter in stack.letters()] == ["same"]


async def test_what_is_pushed_while_the_indexer_is_away_wins_over_what_it_left_unfinished(
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


async def test_refused_images_are_put_aside_so_that_they_can_be_pushed_again(
    indexer: Indexer, stack: Stack
) -> None:
    (stack.folder / "secret.png").write_bytes(picture(3))
    batch = ImageBatch(gallery="people")
    batch.images.add(filename="good.png", data=picture(1))
    batch.images.add(filename="text.png", data=b"I am a text", camera="gate")
    batch.images.add(filename="empty.png", data=b"")
    batch.images.add(filename="no-source.png")
    batch.images.add(filename="outside.png", uri=(stack.folder / "secret.png").as_uri())
    batch.images.add(filename="gone.png", uri=(stack.folder / "allowed" / "gone.png").as_uri())
    batch.images.add(filename="big.png", data=b"x" * 100_001)
    entry = stack.redis.xadd(INGEST_STREAM, {"batch": batch.SerializeToString()})
    stack.redis.xadd(INGEST_STREAM, {"nonsense": b"\xff"})
    await indexer.index()
    assert stack.names("people") == ["good.png"]
    letters = {letter["filename"]: letter for letter in stack.letters()}
    reasons = {
        "text.png": "not an image",
        "empty.png": "0 bytes",
        "no-source.png": "neither data nor uri",
        "outside.png": "not allowed",
        "gone.png": "no such file",
        "big.png": "more than 100,000 bytes",
        "": "'nonsense'",
    }
    assert {
        name: text in letters[name]["reason"] for name, text in reasons.items()
    } == dict.fromkeys(letters, True)
    text = letters["text.png"]
    assert list(text) == ["reason", "gallery", "filename", "entry_id", "deliveries", "entry.batch"]
    assert (text["gallery"], text["entry_id"], text["deliveries"]) == (
        "people",
        entry.decode(),
        "1",
    )
    assert ImageBatch.FromString(text["entry.batch"].encode()) == ImageBatch(
        gallery="people", images=[batch.images[1]]
    )
    assert "entry.nonsense" in letters[""]
    assert letters[""]["gallery"] == ""
    assert stack.redis.hgetall("passerby:dead-letter-counts") == {b"people": b"6"}


async def test_an_entry_that_two_indexers_finish_has_its_letter_once(
    indexer: Indexer, stack: Stack
) -> None:
    stack.push("people", {"text.png": b"I am a text", "good.png": picture(1)})
    await indexer.stream.make_group()
    # Another consumer has it in hand for longer than an abandoned entry may be.
    other = Stream(indexer.redis, "other")
    ((entry_id, fields),) = await other.read(1, 10)
    await indexer.index()
    late = read_entry(entry_id, fields, 1)
    late.refuse("late")
    await other.finish([late])
    (letter,) = stack.letters()
    assert letter["filename"] == "text.png"
    assert letter["deliveries"] == "2"


async def test_what_a_dead_consumer_had_in_hand_is_taken_over(
    indexer: Indexer, stack: Stack
) -> None:
    for number in range(5):
        stack.push("people", {f"{number}.png": picture(number)})
    await indexer.stream.make_group()
    assert len(await Stream(indexer.redis, "dead").read(3, 10)) == 3
    assert len(await Stream(indexer.redis, "here").read(1, 10)) == 1  # an earlier life
    await indexer.index()
    assert stack.rows("people") == 5
    assert stack.redis.xpending(INGEST_STREAM, CONSUMER_GROUP)["pending"] == 0


async def test_what_a_live_consumer_has_in_hand_is_left_to_it(
    stack: Stack, embedder: Service, indexer: Indexer
) -> None:
    other = Indexer(stack, embedder.address, consumer="other")
    resume = asyncio.Event()
    embed = indexer.embedder.embed

    async def slow(images):
        await resume.wait()
        return await embed(images)

    indexer.embedder.embed = slow
    await indexer.stream.make_group()
    stack.push("people", {"1.png": picture(1)})
    async with indexer.running():
        while not await indexer.stream.own_pending(1):
            await asyncio.sleep(0.02)
        async with other.running():
            await asyncio.sleep(2.5 * other.settings.takeover_s)
            (pending,) = await indexer.stream.own_pending(10)
            assert pending.deliveries == 1
            resume.set()
            await indexer.drained()
    assert stack.rows("people") == 1
    await other.close()


async def test_a_poisonous_entry_is_put_aside_and_its_neighbours_are_indexed(
    indexer: Indexer, stack: Stack
) -> None:
    """As far as the consumer can tell, whatever holds this image breaks Milvus each time."""
    upsert = indexer.vectors.upsert

    async def breaking(gallery, version, rows, **how):
        if any(row.camera == "poison" for row in rows):
            raise MilvusRefused("broken by poison")
        return await upsert(gallery, version, rows, **how)

    indexer.vectors.upsert = breaking
    stack.push("people", {"0.png": picture(0)})
    stack.push("people", {"poison.png": picture(99)}, camera="poison")
    for number in range(1, 6):
        stack.push("people", {f"{number}.png": picture(number)})

    async with indexer.running(), asyncio.timeout(60):
        number = 6
        while not stack.letters():  # others succeed meanwhile, or it would not be blamed
            stack.push("people", {f"{number}.png": picture(number)})
            number += 1
            await asyncio.sleep(0.3)
        await indexer.drained()
    (letter,) = stack.letters()
    assert "broken by poison" in letter["reason"]
    assert letter["deliveries"] == "6"
    assert stack.names("people").count("0.png") == 1
    assert stack.rows("people") == number


async def test_an_entry_is_not_blamed_when_nothing_succeeds(indexer: Indexer, stack: Stack) -> None:
    upsert, attempts = indexer.vectors.upsert, []

    async def broken(gallery, version, rows, **how):
        attempts.append(len(rows))
        if len(attempts) < 9:
            raise MilvusRefused("broken for everybody")
        return await upsert(gallery, version, rows, **how)

    indexer.vectors.upsert = broken
    stack.push("people", {"1.png": picture(1)})
    stack.push("people", {"2.png": picture(2)})
    async with indexer.running():
        await indexer.drained(40)
    assert stack.letters() == []
    assert stack.rows("people") == 2


async def test_a_storage_that_is_away_delays_only_its_own_entries(
    indexer: Indexer, stack: Stack
) -> None:
    away, read = True, indexer.sources.read

    async def reading(uri: str, wanted: Callable[[], bool]) -> bytes | None:
        if away:
            raise Unavailable("storage is away")
        return await read(uri, wanted)

    indexer.sources.read = reading
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
    assert stack.letters() == []


@pytest.mark.parametrize("consumer", ["dead", "here"])
async def test_new_entries_come_first_while_many_wait_for_their_storage(
    stack: Stack, embedder: Service, consumer: str
) -> None:
    """So many that going through them takes longer than the time after which they are retried;
    each of them still has its turn."""
    indexer = Indexer(stack, embedder.address, batch_images=2)
    asked = set()

    async def away(uri: str, wanted: Callable[[], bool]) -> bytes:
        asked.add(uri)
        raise Unavailable("storage is away")

    indexer.sources.read = away
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


async def test_being_stopped_while_milvus_is_away_is_not_an_entrys_fault(
    stack: Stack, embedder: Service
) -> None:
    indexer = Indexer(stack, embedder.address, drain_s=0.1)
    upsert, waiting = indexer.vectors.upsert, asyncio.Event()

    async def away(gallery, version, rows, **how):
        waiting.set()
        raise Unavailable("Milvus is away")

    indexer.vectors.upsert = away
    stack.push("people", {"1.png": picture(1)})
    stack.push("people", {"2.png": picture(2)})
    for _ in range(indexer.settings.max_deliveries + 1):
        waiting.clear()
        async with indexer.running():
            await asyncio.wait_for(waiting.wait(), 10)
    indexer.vectors.upsert = upsert
    await indexer.index()
    assert stack.rows("people") == 2
    assert stack.letters() == []
    await indexer.close()


async def test_an_entry_of_many_uris_is_read_and_written_in_parts(
    indexer: Indexer, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(picture(0)) + 100
    monkeypatch.setattr(pipeline, "_FETCHED_BYTES", 10 * size)
    embed, held = indexer.embedder.embed, []

    async def counted(images):
        held.append(sum(len(image) for image in images))
        return await embed(images)

    monkeypatch.setattr(indexer.embedder, "embed", counted)
    folder = stack.folder / "allowed"
    batch = ImageBatch(gallery="people")
    for number in range(100):
        (folder / f"{number}.png").write_bytes(picture(number))
        batch.images.add(filename=f"{number}.png", uri=str(folder / f"{number}.png"))
    (folder / "empty.png").write_bytes(b"")
    batch.images.add(filename="empty.png", uri=str(folder / "empty.png"))
    batch.images.add(filename="gone.png", uri=str(folder / "gone.png"))
    batch.images.add(filename="50.png", data=picture(200))  # the last one of a name wins
    stack.redis.xadd(INGEST_STREAM, {"batch": batch.SerializeToString()})
    await indexer.index()
    assert max(held) < (10 + READS_AT_ONCE) * size
    assert stack.rows("people") == 100
    monkeypatch.setattr(indexer.embedder, "embed", embed)
    assert await nearest(indexer, "people", picture(99)) == "99.png"
    assert await nearest(indexer, "people", picture(200)) == "50.png"
    assert {letter["filename"] for letter in stack.letters()} == {"empty.png", "gone.png"}


async def test_requests_that_wait_for_their_turn_hold_no_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    def make(**fields: object) -> object:
        made.append(fields)
        return EmbedImagesRequest(**fields)

    async with connect("127.0.0.1:1") as nobody:
        embedder = ImageEmbedder(EmbedderClient(nobody), timeout_s=30)
        monkeypatch.setattr(embedder_pb2, "EmbedImagesRequest", make)
        waiting = asyncio.create_task(embedder.embed([b"image"] * 2000))
        await asyncio.sleep(0.3)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert len(made) == 16


async def test_colliding_names_have_rows_of_their_own(indexer: Indexer, stack: Stack) -> None:
    indexer.names = Names(indexer.redis, candidates=lambda _, name: [7, 8])
    stack.push("people", {name: picture(n) for n, name in enumerate("abc")})
    await indexer.index()
    assert stack.rows("people") == 2
    assert await nearest(indexer, "people", picture(0)) == "a"
    assert await nearest(indexer, "people", picture(1)) == "b"
    (letter,) = stack.letters()
    assert (letter["filename"], "rename" in letter["reason"]) == ("c", True)


async def test_a_deletion_at_the_same_time_leaves_no_row_without_a_name(
    indexer: Indexer, stack: Stack
) -> None:
    upsert = indexer.vectors.upsert

    async def overtaken(gallery, version, rows, **how):
        serving = await upsert(gallery, version, rows, **how)
        await indexer.names.forget(gallery, [row.id for row in rows][:1])
        indexer.vectors.upsert = upsert
        return serving

    indexer.vectors.upsert = overtaken
    stack.push("people", {"1.png": picture(1), "2.png": picture(2)})
    await indexer.index()
    assert stack.names("people") == ["1.png", "2.png"]
    assert stack.rows("people") == 2


async def test_an_image_pushed_while_the_model_is_swapped_is_found_at_once(
    indexer: Indexer, stack: Stack, new_embedder: Service
) -> None:
    stack.push("people", {"0.png": picture(0), "1.png": picture(1)})
    await indexer.index()
    old = await indexer.vectors.model_version("people")
    swapping = Indexer(stack, new_embedder.address)
    stack.push("people", {"1.png": picture(1), "2.png": picture(2)})
    await swapping.index()
    assert await swapping.vectors.model_version("people") == old
    assert stack.rows("people") == 3
    assert await nearest(indexer, "people", picture(2)) == "2.png"
    stack.push("people", {"0.png": picture(0)})
    await swapping.index()
    assert await swapping.vectors.model_version("people") != old
    assert stack.rows("people") == 3
    assert await nearest(swapping, "people", picture(2)) == "2.png"
    await swapping.close()


async def test_a_switch_that_comes_between_an_images_two_vectors_stays(
    indexer: Indexer, stack: Stack, new_embedder: Service
) -> None:
    stack.push("people", {"0.png": picture(0)})
    await indexer.index()
    old = await indexer.vectors.model_version("people")
    swapping = Indexer(stack, new_embedder.address)
    lacking = swapping.vectors.lacking

    async def overtaken(gallery: str, version: str, ids: Sequence[int]) -> list[int]:
        """Asked once the new vector is written; another batch ends the swap now."""
        (id_,) = await swapping.names.ids_of(gallery, ["0.png"])
        (result,) = await swapping.embedder.embed([picture(0)])
        await swapping.vectors.upsert(gallery, result.version, [Row(id_, result.vector)])
        assert await swapping.vectors.model_version("people") == result.version
        return await lacking(gallery, version, ids)

    swapping.vectors.lacking = overtaken
    stack.push("people", {"1.png": picture(1)})
    await swapping.index()
    assert await swapping.vectors.model_version("people") != old
    assert await nearest(swapping, "people", picture(1)) == "1.png"
    await swapping.close()


async def test_an_image_that_cannot_be_embedded_for_the_serving_model_waits_for_the_switch(
    indexer: Indexer, stack: Stack, new_embedder: Service
) -> None:
    ahead = Indexer(stack, new_embedder.address)
    stack.push("people", {"0.png": picture(0)})
    await ahead.index()
    stack.push("people", {"1.png": picture(1)})
    await indexer.index()  # whose embedder has never had that model
    assert stack.rows("people") == 1
    stack.push("people", {"0.png": picture(0)})
    await indexer.index()
    assert stack.rows("people") == 2
    assert await nearest(indexer, "people", picture(1)) == "1.png"
    assert stack.letters() == []
    await ahead.close()


async def test_embedders_of_two_versions_side_by_side_hide_no_image(
    indexer: Indexer, stack: Stack, embedder: Service, new_embedder: Service
) -> None:
    """As in a rolling update: who embeds an image is left to chance."""
    mixed = Indexer(stack, f"ipv4:{embedder.address},{new_embedder.address}")
    for number in range(8):
        stack.push("people", {f"{number}.png": picture(number)})
        await mixed.index()
        assert stack.rows("people") == number + 1
    assert len(stack.milvus.list_collections()) == 2
    await mixed.close()


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


async def test_it_stops_although_a_cancellation_gets_lost(
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


async def test_a_redis_out_of_memory_is_waited_for(indexer: Indexer, stack: Stack) -> None:
    stack.push("people", {f"{i}.png": picture(i) for i in range(5)})
    try:
        stack.redis.config_set("maxmemory", 1)
        async with indexer.running():
            await asyncio.sleep(1)
            assert stack.redis.xlen(INGEST_STREAM) == 1
            stack.redis.config_set("maxmemory", 0)
            await indexer.drained()
    finally:
        stack.redis.config_set("maxmemory", 0)
    assert stack.rows("people") == 5
    assert stack.letters() == []


async def test_a_redis_that_cannot_write_to_its_disk_is_waited_for(
    indexer: Indexer, stack: Stack
) -> None:
    """It answers MISCONF to whoever would write, and that is reading from a group, too."""
    disk = stack.redis.config_get("dir")["dir"]
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
                ended = sum(stack.redis.client_unblock(id_, error=True) for id_ in readers)
        await asyncio.sleep(0.2)
        stack.push("people", {"1.png": picture(1)})
        await indexer.drained()
    assert stack.rows("people") == 1
