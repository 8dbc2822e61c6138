"""Images become rows, names and kept bytes, or dead letters."""

import json
from collections.abc import Sequence

import numpy as np
import pytest

from passerby.contract import INGEST_STREAM
from passerby.v1.queue_pb2 import ImageBatch
from services.gallery.digests import Digests, indexed
from services.gallery.names import Names
from services.gallery.vectors import Row
from services.indexer import pipeline
from services.indexer.sources import READS_AT_ONCE
from tests.support import faults
from tests.support.indexer import Stack
from tests.support.indexer_parts import Indexer, nearest
from tests.support.pictures import picture


async def test_an_image_is_indexed_with_all_its_fields(indexer: Indexer, stack: Stack) -> None:
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


async def test_what_was_indexed_is_recorded_and_without_a_digest_forgotten(
    indexer: Indexer, stack: Stack
) -> None:
    async def recorded() -> list[bytes | None]:
        ids = [id_ for id_ in await indexer.names.ids_of("people", ["0.png", "1.png"]) if id_]
        return await Digests(indexer.redis).get("people", ids)

    stack.push("people", {"0.png": picture(0), "1.png": picture(1)}, digest=b"before")
    await indexer.index()
    version = await indexer.vectors.model_version("people")
    before = indexed(version, b"before", kept=False)
    assert await recorded() == [before, before]
    stack.push("people", {"0.png": picture(2)}, digest=b"after")
    stack.push("people", {"1.png": picture(3)})
    await indexer.index()
    assert await recorded() == [indexed(version, b"after", kept=False), None]


async def test_rejected_images_become_dead_letters_that_can_be_pushed_again(
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
    letters = {letter["filename"]: letter for letter in stack.dead_letters()}
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
        entry.decode() if isinstance(entry, bytes) else entry,
        "1",
    )
    assert ImageBatch.FromString(text["entry.batch"].encode()) == ImageBatch(
        gallery="people", images=[batch.images[1]]
    )
    assert "entry.nonsense" in letters[""]
    assert letters[""]["gallery"] == ""
    assert stack.redis.hgetall("passerby:dead-letter-counts") == {b"people": b"6"}


async def test_an_entry_of_many_uris_is_read_and_written_in_parts(
    indexer: Indexer, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(picture(0)) + 100
    monkeypatch.setattr(pipeline, "_PART_BYTES", 10 * size)
    held = list[int]()

    async def counted(images: Sequence[bytes]) -> None:
        held.append(sum(len(image) for image in images))

    faults.before(indexer.embedder.embed, counted)
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
    assert await nearest(indexer, "people", picture(99)) == "99.png"
    assert await nearest(indexer, "people", picture(200)) == "50.png"
    assert {letter["filename"] for letter in stack.dead_letters()} == {"empty.png", "gone.png"}


async def test_colliding_names_have_rows_of_their_own(indexer: Indexer, stack: Stack) -> None:
    indexer.names = Names(indexer.redis, candidates=lambda _, name: [7, 8])
    stack.push("people", {name: picture(n) for n, name in enumerate("abc")})
    await indexer.index()
    assert stack.rows("people") == 2
    assert await nearest(indexer, "people", picture(0)) == "a"
    assert await nearest(indexer, "people", picture(1)) == "b"
    (letter,) = stack.dead_letters()
    assert (letter["filename"], "rename" in letter["reason"]) == ("c", True)


async def test_a_deletion_at_the_same_time_leaves_no_row_without_a_name(
    indexer: Indexer, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    upsert = indexer.vectors.upsert

    async def overtaken(gallery: str, version: str, rows: Sequence[Row]) -> None:
        await upsert(gallery, version, rows)
        await indexer.names.forget(gallery, [row.id for row in rows][:1])
        monkeypatch.setattr(indexer.vectors, "upsert", upsert)

    monkeypatch.setattr(indexer.vectors, "upsert", overtaken)
    stack.push("people", {"1.png": picture(1), "2.png": picture(2)})
    await indexer.index()
    assert stack.names("people") == ["1.png", "2.png"]
    assert stack.rows("people") == 2
