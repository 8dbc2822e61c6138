"""A search during which its gallery is switched to another model answers in that model's space."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from passerby.v1 import search_pb2
from services.gallery.digests import Digests
from services.gallery.gallery_deletions import GalleryDeletions
from services.gallery.names import Names
from services.gallery.redis_connection import connect
from services.gallery.vectors import Row, Vectors
from services.query.search import search
from services.query.stores import Stores

# By the old model image 1 is most similar to image 0, by the new one image 2 is.
OLD = np.array([[1, 0], [0.9, 0.1], [0, 1]], np.float32)
NEW = OLD[[0, 2, 1]]


async def test_a_search_is_repeated_when_its_gallery_is_switched_meanwhile(
    redis_server: str, milvus_server: str, gallery: str
) -> None:
    redis = connect(redis_server, 5)
    vectors = Switching(milvus_server)
    names = Names(redis)
    vectors.ids = [id_ for id_ in await names.claim(gallery, ["0", "1", "2"]) if id_ is not None]
    await vectors.write(gallery, "old", OLD)

    # The query is an image of the gallery, so no embedder is called.
    request = search_pb2.SearchRequest(gallery=gallery, filename="0")
    response = await search(
        request,
        Stores(vectors, names, Digests(redis), GalleryDeletions(redis), None, redis),
        cast(Any, None),
        30,
    )

    assert response.model == "new"
    assert [hit.filename for hit in response.hits] == ["2", "1"]
    await vectors.close()
    await redis.aclose()


class Switching(Vectors):
    """Another model's vectors are written, and served, just after the first look at a vector."""

    ids: list[int]
    switched = False

    async def write(self, gallery: str, version: str, rows: NDArray[np.float32]) -> None:
        await self.upsert(gallery, version, [Row(*row) for row in zip(self.ids, rows, strict=True)])
        assert await self.switch_when_complete(gallery, version) == version

    async def vector_of(self, gallery: str, id_: int) -> NDArray[np.float32] | None:
        found = await super().vector_of(gallery, id_)
        if not self.switched:
            self.switched = True
            await self.write(gallery, "new", NEW)
        return found
