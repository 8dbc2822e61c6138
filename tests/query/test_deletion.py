"""A deletion and a push of the same image at the same time leave nothing half there."""

from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from passerby.v1 import search_pb2
from services.gallery.digests import Digests
from services.gallery.gallery_deletions import GalleryDeletions
from services.gallery.names import Names
from services.gallery.redis_connection import connect
from services.gallery.vectors import Row, Vectors
from services.query.galleries import delete
from services.query.stores import Stores

VECTOR = np.array([1, 0], np.float32)


@pytest.fixture
async def stores(redis_server: str, milvus_server: str) -> AsyncIterator[Stores]:
    redis = connect(redis_server, 5)
    vectors = Vectors(milvus_server)

    class Overtaken(Names):
        """A push writes its vectors, and finds its names, just before they are forgotten."""

        async def forget(self, gallery: str, ids: Sequence[int]) -> None:
            await vectors.upsert(gallery, "v1", [Row(id_, VECTOR) for id_ in ids])
            assert None not in await self.filenames_of(gallery, ids)
            await super().forget(gallery, ids)

    yield Stores(vectors, Overtaken(redis), Digests(redis), GalleryDeletions(redis), None, redis)
    await vectors.close()
    await redis.aclose()


async def test_an_image_pushed_while_it_is_deleted_leaves_no_row_without_a_name(
    stores: Stores, gallery: str
) -> None:
    claimed = await stores.names.claim(gallery, ["gone", "named only", "stays"])
    gone, _, stays = ids = [id_ for id_ in claimed if id_ is not None]
    await stores.vectors.upsert(gallery, "v1", [Row(id_, VECTOR) for id_ in (gone, stays)])
    request = search_pb2.DeleteRequest(gallery=gallery, filenames=["gone", "named only"])
    assert (await delete(request, stores)).deleted == 1  # what was there when it was called
    matches = await stores.vectors.search(gallery, VECTOR, top_k=10)
    assert [match.id for match in matches] == [stays]
    assert await stores.names.filenames_of(gallery, ids) == [None, None, "stays"]
