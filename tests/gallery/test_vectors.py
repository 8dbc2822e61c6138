"""Vectors on a real Milvus: found once written, once each, in their gallery, by their model."""

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.gallery import milvus_connection
from services.gallery.vectors import Match, Row, Vectors
from services.indexer.retry import retry_until_available
from services.runtime.errors import NotFound, Unavailable
from tests.support.processes import free_port
from tests.support.stores import milvus_client, milvus_running


def direction(number: int, dimension: int = 8) -> NDArray[np.float32]:
    """Another unit vector for each number."""
    vector = np.random.default_rng(number).normal(size=dimension).astype(np.float32)
    return vector / np.linalg.norm(vector)


def rows(ids: Iterable[int]) -> list[Row]:
    return [Row(id_, direction(id_)) for id_ in ids]


async def test_a_written_row_is_found_at_once_with_all_that_it_holds(vectors: Vectors) -> None:
    row = Row(2**63 - 1, direction(1), 'gate "1"', 1_777_636_800_123_456, {"[a]'\"": "ü\n"})
    await vectors.upsert("a-gallery", "v1", [row, Row(0, direction(2))])
    first, second = await vectors.search("a-gallery", direction(1), top_k=10)
    assert first == Match(row.id, first.score, row.camera, row.captured_at_us, dict(row.tags))
    assert first.score == pytest.approx(1, abs=1e-5)
    assert (second.id, second.camera, second.captured_at_us, second.tags) == (0, "", None, {})
    assert second.score == pytest.approx(float(direction(1) @ direction(2)), abs=1e-5)
    found = await vectors.vector_of("a-gallery", row.id)
    assert found is not None
    assert np.allclose(found, row.vector)
    assert await vectors.vector_of("a-gallery", 5) is None


async def test_writing_again_replaces_and_never_doubles(vectors: Vectors) -> None:
    for _ in range(2):
        await vectors.upsert("people", "v1", rows(range(30)))
    await vectors.upsert("people", "v1", [Row(3, direction(99), camera="new")])
    assert await vectors.count("people") == 30
    found = await vectors.search("people", direction(99), top_k=30)
    assert len({match.id for match in found}) == 30
    assert (found[0].id, found[0].camera) == (3, "new")


async def test_more_rows_than_a_message_may_hold_are_written(vectors: Vectors) -> None:
    """With the longest tags, 2,000 rows are 130 MB; Milvus takes messages of 64 MiB."""
    tags = {"note": "x" * 65_000}
    await vectors.upsert(
        "people", "v1", [Row(id_, direction(id_), tags=tags) for id_ in range(2000)]
    )
    assert await vectors.count("people") == 2000


async def test_pages_of_a_search_follow_each_other(vectors: Vectors) -> None:
    await vectors.upsert("people", "v1", rows(range(30)))
    whole = [match.id for match in await vectors.search("people", direction(1), top_k=30)]
    second = await vectors.search("people", direction(1), top_k=10, offset=10)
    assert [match.id for match in second] == whole[10:20]
    assert await vectors.search("people", direction(1), top_k=10, offset=30) == []


async def test_galleries_are_listed_counted_and_kept_apart(vectors: Vectors) -> None:
    await vectors.upsert("right", "v1", rows(range(2)))
    await vectors.upsert("left-1", "v1", rows(range(3)))
    assert await vectors.galleries() == ["left-1", "right"]
    assert [await vectors.count(name) for name in ("left-1", "right")] == [3, 2]
    assert await vectors.delete("left-1", [0, 1, 77]) == 2
    assert [await vectors.count(name) for name in ("left-1", "right")] == [1, 2]


async def test_all_matching_ids_come_in_pages(
    vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread = [Row(id_ << 55, direction(id_), camera="ab"[id_ % 2]) for id_ in range(100)]
    await vectors.upsert("people", "v1", spread)
    monkeypatch.setattr(milvus_connection, "PAGE", 10)
    pages = [page async for page in vectors.ids_matching("people", 'camera == "a"')]
    assert sorted(id_ for page in pages for id_ in page) == [
        row.id for row in spread if row.camera == "a"
    ]
    assert all(len(page) < 10 for page in pages)


async def test_a_gallery_that_is_not_there_is_not_found(vectors: Vectors) -> None:
    await vectors.upsert("people", "v1", rows(range(1)))
    for call in (
        vectors.search("nobody", direction(1), top_k=1),
        vectors.count("nobody"),
        vectors.model_version("nobody"),
        vectors.vector_of("nobody", 1),
        vectors.delete("nobody", [1]),
    ):
        with pytest.raises(NotFound, match="nobody"):
            await call


async def write(vectors: Vectors, gallery: str, version: str, written: list[Row]) -> None:
    """As the indexer writes."""
    await vectors.upsert(gallery, version, written)
    await vectors.switch_when_complete(gallery, version)


async def test_a_new_model_is_filled_beside_the_old_one_and_then_switched_in(
    vectors: Vectors, milvus_uri: str
) -> None:
    await write(vectors, "people", "old", rows(range(10)))
    other = Vectors(milvus_uri)  # another process, which has not seen the old one
    await write(other, "people", "new", [Row(id_, direction(id_, 16)) for id_ in range(9)])
    assert await vectors.model_version("people") == "old"
    assert await vectors.count("people") == 10
    await write(other, "people", "new", [Row(9, direction(9, 16))])
    assert await vectors.model_version("people") == "new"
    assert (await vectors.search("people", direction(4, 16), top_k=1))[0].id == 4
    # A straggler that still embeds with the old model does not switch back.
    await write(other, "people", "new", [Row(10, direction(10, 16))])
    await write(vectors, "people", "old", rows(range(1)))
    assert await vectors.model_version("people") == "new"
    assert await vectors.delete("people", [4, 10]) == 2
    assert await vectors.count("people") == 9
    await other.close()


def rows_of_new_model(ids: Iterable[int]) -> list[Row]:
    return [Row(id_, direction(id_, 16)) for id_ in ids]


async def test_new_images_alone_never_switch_the_old_ones_out(
    vectors: Vectors, milvus_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(vectors, "people", "old", rows(range(0, 2**62, 2**57)))
    monkeypatch.setattr(milvus_connection, "PAGE", 10)
    for start in range(0, 60, 20):
        await write(vectors, "people", "new", rows_of_new_model(range(1 + start, 21 + start)))
    assert await vectors.model_version("people") == "old"
    again = list(range(0, 2**62, 2**57))
    for part in (again[:20], again[20:31]):
        await write(vectors, "people", "new", rows_of_new_model(part))
        assert await vectors.model_version("people") == "old"
    restarted = Vectors(milvus_uri)
    await write(restarted, "people", "new", rows_of_new_model(again[:1]))
    assert await vectors.model_version("people") == "old"
    await write(restarted, "people", "new", rows_of_new_model(again[31:]))
    assert await vectors.model_version("people") == "new"
    assert await vectors.count("people") == 92
    await restarted.close()


async def test_an_image_that_is_deleted_is_not_waited_for(vectors: Vectors) -> None:
    await write(vectors, "people", "old", rows(range(3)))
    await write(vectors, "people", "new", rows_of_new_model(range(1, 6)))
    assert await vectors.model_version("people") == "old"
    await vectors.delete("people", [0])
    await write(vectors, "people", "new", rows_of_new_model(range(1, 2)))
    assert await vectors.model_version("people") == "new"


async def test_processes_with_different_models_never_hide_an_image_from_each_other(
    vectors: Vectors, milvus_uri: str
) -> None:
    other = Vectors(milvus_uri)
    await write(vectors, "people", "old", rows(range(3)))
    await write(other, "people", "new", rows_of_new_model(range(3)))
    await write(vectors, "people", "old", rows(range(4)))
    assert (await vectors.model_version("people"), await vectors.count("people")) == ("old", 4)
    await write(other, "people", "new", rows_of_new_model(range(5)))
    assert (await vectors.model_version("people"), await vectors.count("people")) == ("new", 5)
    await other.close()


async def test_writing_rows_alone_never_switches(vectors: Vectors) -> None:
    await vectors.upsert("people", "old", rows(range(3)))
    await vectors.upsert("people", "new", rows_of_new_model(range(3)))
    assert await vectors.model_version("people") == "old"
    assert await vectors.switch_when_complete("people", "new") == "new"
    assert await vectors.model_version("people") == "new"


async def test_a_collection_that_was_dropped_is_made_again(
    vectors: Vectors, milvus_uri: str
) -> None:
    await vectors.upsert("people", "v1", rows(range(3)))
    client = milvus_client(milvus_uri)
    client.drop_alias("gallery_people")
    client.drop_collection("vectors_v1_people")
    client.close()
    with pytest.raises(Unavailable, match="dropped"):
        await vectors.upsert("people", "v1", rows(range(2)))
    await vectors.upsert("people", "v1", rows(range(2)))
    assert await vectors.count("people") == 2


async def test_a_milvus_that_is_away_is_unavailable_in_time_and_found_again(tmp_path: Path) -> None:
    port = free_port()
    vectors = Vectors(f"http://127.0.0.1:{port}", timeout_s=2)
    started = time.monotonic()
    with pytest.raises(Unavailable, match=str(port)):
        await vectors.ping()
    with milvus_running(tmp_path / "milvus", port):
        await retry_until_available(lambda: vectors.upsert("people", "v1", rows(range(3))))
    for call in (
        vectors.ping(),
        vectors.upsert("people", "v1", rows(range(3))),
        vectors.search("people", direction(1), top_k=1),
        vectors.count("people"),
    ):
        with pytest.raises(Unavailable):
            await call
    with milvus_running(tmp_path / "milvus", port):
        # Read before anything is written: who restarts keeps no collection in memory.
        found = await retry_until_available(lambda: vectors.search("people", direction(1), top_k=1))
        assert found[0].id == 1
        await vectors.upsert("people", "v1", rows(range(4)))
        assert await vectors.count("people") == 4
    await vectors.close()
    assert time.monotonic() - started < 60
