"""Query is ready when Milvus answers searches, not as soon as it answers."""

from collections.abc import AsyncIterator

import numpy as np
import pytest

from services.gallery.vectors import Row, Vectors
from services.query import searchable
from services.query.searchable import Searchable
from services.runtime.errors import NotFound, Unavailable
from tests.support.faults import before

LOADING = Unavailable("not loaded")


class Faults:
    """Which galleries are still being loaded, and whether Milvus is away."""

    def __init__(self) -> None:
        self.loading: set[str] = set()
        self.dropped: set[str] = set()
        self.away = False
        self.searched: list[str] = []

    async def search(self, gallery: str) -> None:
        self.searched.append(gallery)
        if gallery in self.loading:
            raise LOADING
        if gallery in self.dropped:
            raise NotFound("dropped")

    async def ping(self) -> None:
        if self.away:
            raise Unavailable("connection refused")


@pytest.fixture
async def vectors(milvus_uri: str) -> AsyncIterator[Vectors]:
    vectors = Vectors(milvus_uri)
    yield vectors
    await vectors.close()


@pytest.fixture
def faults(vectors: Vectors) -> Faults:
    faults = Faults()
    before(vectors.try_search, faults.search)
    before(vectors.ping, faults.ping)
    before(vectors.galleries, faults.ping)
    return faults


@pytest.fixture
async def galleries(vectors: Vectors) -> list[str]:
    for gallery in ("people", "visitors"):
        await vectors.upsert(gallery, "0123456789ab", [Row(1, np.eye(1, 8, dtype=np.float32)[0])])
    return await vectors.galleries()


async def test_without_galleries_it_is_ready_at_once(vectors: Vectors) -> None:
    await Searchable(vectors)()


async def test_it_waits_for_each_gallery_and_names_one(
    vectors: Vectors, galleries: list[str], faults: Faults
) -> None:
    probe = Searchable(vectors)
    faults.loading = set(galleries)
    with pytest.raises(Unavailable, match=r"gallery people and 1 more .* yet: not loaded"):
        await probe()
    faults.loading = {"visitors"}
    with pytest.raises(Unavailable, match="gallery visitors cannot be searched yet: not loaded"):
        await probe()
    faults.loading = set()
    await probe()
    # What was searched once is not searched again, least of all by every probe that follows.
    assert sorted(faults.searched) == ["people", "people", "visitors", "visitors", "visitors"]
    faults.loading = set(galleries)
    await probe()
    assert len(faults.searched) == 5


async def test_a_gallery_that_was_dropped_since_is_not_waited_for(
    vectors: Vectors, galleries: list[str], faults: Faults
) -> None:
    faults.dropped = {galleries[0]}
    await Searchable(vectors)()


async def test_after_an_outage_of_milvus_the_galleries_are_searched_again(
    vectors: Vectors, galleries: list[str], faults: Faults
) -> None:
    probe = Searchable(vectors)
    await probe()
    faults.away = True
    with pytest.raises(Unavailable, match="connection refused"):
        await probe()
    faults.away, faults.loading = False, {galleries[0]}
    with pytest.raises(Unavailable, match="cannot be searched yet"):
        await probe()
    faults.loading = set()
    await probe()


async def test_a_gallery_that_milvus_cannot_load_holds_the_others_up_for_a_while_only(
    vectors: Vectors, galleries: list[str], faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = Searchable(vectors)
    faults.loading = {galleries[1]}
    with pytest.raises(Unavailable, match=f"gallery {galleries[1]} cannot"):
        await probe()
    monkeypatch.setattr(searchable, "PATIENCE_S", 0)
    await probe()


async def test_while_no_gallery_can_be_searched_it_is_never_ready(
    vectors: Vectors, galleries: list[str], faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searchable, "PATIENCE_S", 0)
    probe = Searchable(vectors)
    faults.loading = set(galleries)
    for _ in range(3):
        with pytest.raises(Unavailable, match="and 1 more cannot be searched yet"):
            await probe()
