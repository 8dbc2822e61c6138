"""A gallery is deleted while it is pushed to: half of it never comes back."""

import asyncio

import pytest

from passerby.contract import INGEST_STREAM
from passerby.v1 import search_pb2
from services.gallery.digests import Digests
from services.gallery.gallery_deletions import GalleryDeletions
from services.query.gallery_deletion import delete_gallery
from services.query.stores import Stores
from services.runtime.errors import NotFound, Unavailable
from tests.support import faults
from tests.support.indexer import Stack
from tests.support.indexer_parts import Indexer, nearest
from tests.support.pictures import picture

PEOPLE = search_pb2.DeleteGalleryRequest(gallery="people")


@pytest.fixture
async def stores(indexer: Indexer) -> Stores:
    return Stores(
        indexer.vectors,
        indexer.names,
        Digests(indexer.redis),
        GalleryDeletions(indexer.redis),
        None,
        indexer.redis,
    )


def pictures(*numbers: int) -> dict[str, bytes]:
    return {f"{number}.png": picture(number) for number in numbers}


async def test_what_was_queued_before_is_deleted_and_what_came_later_is_not(
    indexer: Indexer, stack: Stack, stores: Stores
) -> None:
    stack.push("people", pictures(0))
    stack.push("others", pictures(0))
    await indexer.index()
    stack.push("people", {**pictures(1), "broken.png": b"not an image", "": b"has no name"})
    stack.push("others", pictures(1))
    assert (await delete_gallery(PEOPLE, stores)).deleted == 1
    await indexer.index()
    with pytest.raises(NotFound):
        await indexer.vectors.count("people")
    assert stack.names("people") == []
    assert stack.dead_letters() == []
    assert stack.rows("others") == 2
    stack.push("people", pictures(2))
    await indexer.index()
    assert stack.names("people") == ["2.png"]
    assert stack.rows("people") == 1
    assert await nearest(indexer, "people", picture(2)) == "2.png"


async def test_a_deletion_waits_for_what_is_being_written(
    indexer: Indexer, stack: Stack, stores: Stores
) -> None:
    stack.push("people", pictures(0))
    await indexer.index()
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def held(*_: object) -> None:
        writing.set()
        await go_on.wait()

    faults.before(indexer.vectors.upsert, held)
    stack.push("people", {**pictures(1), "broken.png": b"not an image"})
    async with indexer.running():
        await writing.wait()
        deleting = asyncio.create_task(delete_gallery(PEOPLE, stores))
        await asyncio.wait({deleting}, timeout=0.5)
        assert not deleting.done()
        go_on.set()
        await deleting
        await indexer.drained()
    assert stack.milvus.list_collections() == []
    assert stack.names("people") == []
    assert stack.dead_letters() == []


async def test_a_deletion_that_was_cut_off_lets_nothing_in_until_it_is_completed(
    indexer: Indexer, stack: Stack, stores: Stores
) -> None:
    stack.push("people", pictures(0))
    await indexer.index()

    async def cut_off(_: str) -> None:
        raise Unavailable("Redis went away")

    mend = faults.before(stores.names.forget_gallery, cut_off)
    with pytest.raises(Unavailable, match="went away"):
        await delete_gallery(PEOPLE, stores)
    stack.push("people", pictures(1))
    stack.push("others", pictures(2))
    async with indexer.running():
        async with asyncio.timeout(30):
            while await indexer.redis.xlen(INGEST_STREAM) > 1:
                await asyncio.sleep(0.02)
        # What waits for the end holds nobody up.
        assert stack.rows("others") == 1
        assert stack.names("people") == ["0.png"]
        mend()
        await delete_gallery(PEOPLE, stores)
        await indexer.drained()
    assert stack.names("people") == []
    with pytest.raises(NotFound):
        await indexer.vectors.count("people")


async def test_a_deletion_that_was_cut_off_just_before_its_end_is_completed(
    indexer: Indexer, stack: Stack, stores: Stores
) -> None:
    """Nothing is left of the gallery then, but what is pushed to it still waits."""
    stack.push("people", pictures(0))
    await indexer.index()

    async def cut_off(*_: object) -> None:
        raise Unavailable("Redis went away")

    mend = faults.before(stores.deletions.end, cut_off)
    with pytest.raises(Unavailable, match="went away"):
        await delete_gallery(PEOPLE, stores)
    mend()
    assert (await delete_gallery(PEOPLE, stores)).deleted == 0
    stack.push("people", pictures(1))
    await indexer.index()
    assert stack.rows("people") == 1


async def test_what_is_pushed_during_a_deletion_is_indexed_after_it(
    indexer: Indexer, stack: Stack, stores: Stores
) -> None:
    stack.push("people", pictures(0))
    await indexer.index()

    async def pushed_to(_: str) -> None:
        stack.push("people", pictures(1))
        await asyncio.sleep(0.5)
        assert await indexer.redis.xlen(INGEST_STREAM) == 1

    faults.before(stores.names.forget_gallery, pushed_to)
    async with indexer.running():
        await delete_gallery(PEOPLE, stores)
        await indexer.drained()
    assert stack.names("people") == ["1.png"]
    assert stack.rows("people") == 1
