"""Vectors in Milvus: written, searched and deleted by gallery, whatever model it is served with."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.gallery.collection_names import CollectionName, alias_name
from services.gallery.filters import NO_TIME, ids_in, shown_key, stored_key
from services.gallery.index import Index
from services.gallery.milvus_connection import PAGE, Milvus
from services.gallery.model_versions import ModelVersions
from services.runtime.errors import NotFound, Unavailable

# Far below the limit of a message (64 MiB) even with the longest tags.
_ROWS_PER_REQUEST = 500
# So many best hits lie in the lists that are nearest to a caption.
_IN_NEAREST_LISTS = 100
_DEFAULT_INDEX = Index()


@dataclass(frozen=True)
class Row:
    """One image as Milvus keeps it."""

    id: int
    vector: NDArray[np.float32]
    camera: str = ""
    captured_at_us: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Match:
    """One image that a search found."""

    id: int
    score: float
    camera: str
    captured_at_us: int | None
    tags: dict[str, str]


class Vectors:
    """All galleries' vectors. Raises NotFound for a gallery that does not exist and Unavailable if
    Milvus does not answer, each within about `timeout_s`."""

    def __init__(
        self,
        uri: str,
        *,
        token: str = "",
        timeout_s: float = 10,
        index: Index = _DEFAULT_INDEX,
    ) -> None:
        self._milvus = Milvus(uri, token, timeout_s)
        self._versions = ModelVersions(self._milvus, index)
        self._index = index
        # Lite serialises writers to one collection badly, and so it is done here.
        self._writers: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def close(self) -> None:
        await self._milvus.close()

    async def ping(self) -> None:
        """Raises Unavailable if Milvus does not answer."""
        with self._milvus.errors("list collections"):
            await self._milvus.client.list_collections(timeout=self._milvus.timeout_s)

    async def upsert(self, gallery: str, version: str, rows: Sequence[Row]) -> None:
        """Writes the rows; an id that exists is replaced. Searches of this version see them from
        then on."""
        collection = str(CollectionName(gallery, version))
        with self._made_again_if_dropped(gallery, version):
            await self._versions.prepare(gallery, version, len(rows[0].vector))
            for start in range(0, len(rows), _ROWS_PER_REQUEST):
                data = [_fields(row) for row in rows[start : start + _ROWS_PER_REQUEST]]
                async with self._writers[collection]:
                    with self._milvus.errors(f"write to {collection}"):
                        await self._milvus.client.upsert(
                            collection, data, timeout=self._milvus.timeout_s
                        )
            await self._wait_until_visible(collection, rows[-1].id)

    async def _wait_until_visible(self, collection: str, id_: int) -> None:
        """Searches take what a server has at hand (Bounded), because waiting for the newest
        (Strong) would cost each of them up to a tick of Milvus' clock (200 ms). It is the writer
        who waits that long, until a server has the last of its rows at hand."""
        await self._milvus.ids(collection, ids_in([id_]), 1)

    async def switch_when_complete(self, gallery: str, version: str) -> str:
        """Has the gallery served with this version if its collection holds all of the images of
        the one that serves now. Returns the version that serves then."""
        with self._made_again_if_dropped(gallery, version):
            return await self._versions.switch_when_complete(gallery, version)

    @contextlib.contextmanager
    def _made_again_if_dropped(self, gallery: str, version: str) -> Iterator[None]:
        """A collection may be dropped by hand: the next upsert makes it again."""
        try:
            yield
        except NotFound as error:
            self._versions.dropped(gallery, version)
            collection = CollectionName(gallery, version)
            raise Unavailable(f"{collection} was dropped; it is made again") from error

    async def lacking(
        self, gallery: str, version: str, ids: Sequence[int], *, newest: bool = True
    ) -> list[int]:
        """Those of the ids that the gallery has no vector of this version for; see Milvus.ids."""
        collection = str(CollectionName(gallery, version))
        return await self._milvus.lacking(collection, ids, newest=newest)

    async def search(
        self,
        gallery: str,
        vector: NDArray[np.float32],
        top_k: int,
        offset: int = 0,
        expression: str = "",
    ) -> list[Match]:
        """The images with the greatest cosine similarity to `vector` (dimension,), best first.

        Where there are more images than asked for, as many as asked for. The first page of an
        unfiltered search comes from the nearest lists if they hold enough; what is deeper or
        filtered comes from all lists, so that leafing shows every image.
        """
        exact = bool(expression or offset) or top_k > _IN_NEAREST_LISTS
        while True:
            with self._milvus.errors(f"search gallery {gallery}"):
                (hits,) = await self._milvus.read(
                    self._milvus.client.search,
                    alias_name(gallery),
                    data=[vector],
                    filter=expression,
                    limit=top_k,
                    offset=offset,
                    output_fields=["camera", "captured_at", "tags"],
                    search_params={"params": self._index.searching(offset + top_k, exact=exact)},
                )
            if exact or len(hits) == top_k:
                return [_match(hit) for hit in hits]
            exact = True

    async def try_search(self, gallery: str) -> None:
        """A search for anything; raises what a search of the gallery would raise."""
        with self._milvus.errors(f"describe gallery {gallery}"):
            collection = await self._milvus.client.describe_collection(
                alias_name(gallery), timeout=self._milvus.timeout_s
            )
        (dimension,) = (
            each["params"]["dim"] for each in collection["fields"] if each["name"] == "vector"
        )
        await self.search(gallery, np.eye(1, int(dimension), dtype=np.float32)[0], 1)

    async def vector_of(self, gallery: str, id_: int) -> NDArray[np.float32] | None:
        """The vector of one image, or None if the gallery does not have it."""
        with self._milvus.errors(f"read from gallery {gallery}"):
            rows = await self._milvus.read(
                self._milvus.client.get, alias_name(gallery), ids=[id_], output_fields=["vector"]
            )
        return np.asarray(rows[0]["vector"], np.float32) if rows else None

    async def delete(self, gallery: str, ids: Sequence[int]) -> int:
        """Takes rows out of all versions of the gallery; returns how many images were there."""
        collections = await self._versions.collections(gallery)
        if not collections:
            raise NotFound(f"there is no gallery {gallery!r}; push an image to it first")
        deleted = 0
        for start in range(0, len(ids), PAGE):
            page = list(ids[start : start + PAGE])
            there: set[int] = set()
            for collection in collections:
                there.update(await self._milvus.ids(collection, ids_in(page), len(page)))
                async with self._writers[collection]:
                    with self._milvus.errors(f"delete rows of {collection}"):
                        await self._milvus.client.delete(
                            collection, page, timeout=self._milvus.timeout_s
                        )
            deleted += len(there)
        return deleted

    async def has_collections(self, gallery: str) -> bool:
        """Whether any version of the gallery is there, served or not."""
        return bool(await self._versions.collections(gallery))

    async def drop(self, gallery: str) -> None:
        """Drops all versions of the gallery; it may be repeated."""
        await self._versions.drop(gallery)

    def ids_matching(self, gallery: str, expression: str) -> AsyncIterator[list[int]]:
        """All ids that the expression matches, in pages."""
        return self._milvus.pages(alias_name(gallery), expression)

    async def count(self, gallery: str) -> int:
        """Images that a search can find, counted now and not estimated."""
        return await self._milvus.count(alias_name(gallery))

    async def model_version(self, gallery: str) -> str:
        """Version of the model that the gallery is served with."""
        return await self._versions.serving(gallery)

    async def begun(self) -> set[str]:
        """The names of all galleries that have a collection; cheaper than `galleries`."""
        return await self._versions.begun()

    async def galleries(self) -> list[str]:
        """The names of all galleries, sorted."""
        return await self._versions.galleries()


def _fields(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "vector": row.vector,
        "camera": row.camera,
        "captured_at": NO_TIME if row.captured_at_us is None else row.captured_at_us,
        "tags": {stored_key(key): value for key, value in row.tags.items()},
    }


def _match(hit: Any) -> Match:
    entity = hit["entity"]
    captured_at = int(entity["captured_at"])
    return Match(
        id=int(hit["id"]),
        score=float(hit["distance"]),
        camera=str(entity["camera"]),
        captured_at_us=None if captured_at == NO_TIME else captured_at,
        tags={shown_key(key): value for key, value in (entity["tags"] or {}).items()},
    )
