"""Vectors in Milvus: one collection for each gallery and model version, one alias a gallery."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import structlog
from numpy.typing import NDArray
from pymilvus import AsyncMilvusClient, DataType, MilvusClient, MilvusException
from pymilvus.exceptions import DataNotMatchException, ParamError

from services.gallery.filters import NO_TIME, both, id_range, ids_in, shown_key, stored_key
from services.runtime.errors import NotFound, ServiceError, Unavailable
from services.runtime.health import first_line

log = structlog.get_logger()

MAX_CAMERA_BYTES = 256
# Milvus' limit of a JSON field.
MAX_TAGS_BYTES = 65_536

# "No such collection or alias", in this order: 2.x, 2.4 and later for aliases, before 2.3.
_NOT_FOUND = {100, 1600, 4}
_NOT_LOADED = 101
# Parameters and fields that are wrong: asking again does not help.
_REFUSED = {*range(1100, 1200), *range(1700, 1800)}
_PAGE = 10_000
_GRPC_OPTIONS = {
    # The default is two minutes: a restarted Milvus would be found that late.
    "grpc.max_reconnect_backoff_ms": 2000,
    # pymilvus pings idle connections every 10 seconds, for which Lite's server cuts them off
    # ("too many pings"); ours are never idle for long, and calls have deadlines.
    "grpc.keepalive_permit_without_calls": 0,
    "grpc.keepalive_time_ms": 300_000,
}
# Far below the limit of a message (64 MiB) even with the longest tags.
_WRITTEN_AT_ONCE = 500


class MilvusRefused(ServiceError):
    """Milvus calls the request itself wrong: a defect here, or a server that is too old."""


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
    """All galleries' vectors. Raises NotFound for a gallery that is not there, Unavailable for
    a Milvus that is not, each within about `timeout_s`."""

    def __init__(
        self,
        uri: str,
        *,
        token: str = "",
        timeout_s: float = 10,
        index: str = "AUTOINDEX",
        index_params: Mapping[str, Any] | None = None,
        search_params: Mapping[str, Any] | None = None,
    ) -> None:
        self._uri = uri
        self._token = token
        self._timeout_s = timeout_s
        self._index = index
        self._index_params = dict(index_params or {})
        self._search_params = {"params": dict(search_params or {})}
        # A connection of its own: shared ones stay with the event loop that opened them.
        self._client = AsyncMilvusClient(
            uri, token=token, dedicated=True, grpc_options=_GRPC_OPTIONS
        )
        # Lite serialises writers to one collection badly, and so it is done here.
        self._writers: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._prepared: set[str] = set()
        self._switching: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        # Collection -> ids that it lacked, when last compared, to take a gallery over.
        self._missing: dict[str, list[int]] = {}

    async def close(self) -> None:
        await self._client.close()

    async def ping(self) -> None:
        """Raises Unavailable if Milvus does not answer."""
        with self._errors("list collections"):
            await self._client.list_collections(timeout=self._timeout_s)

    async def prepare(self, gallery: str, version: str, dimension: int) -> None:
        """Makes the collection and, for a new gallery, the alias; harmless if both are there.

        It may be called at the same time by several processes and after one died half-way.
        """
        collection = _collection(gallery, version)
        if collection in self._prepared:
            return
        async with self._writers[collection]:
            if collection in self._prepared:
                return
            with self._errors(f"make collection {collection}"):
                await asyncio.to_thread(self._make, collection, dimension, _alias(gallery))
            self._prepared.add(collection)

    async def upsert(self, gallery: str, version: str, rows: Sequence[Row]) -> None:
        """Writes the rows; an id that is there already is replaced. Searches see them from then on.

        When the gallery is served from another version's collection and this one now holds all
        of its images, the gallery is switched to this one.
        """
        await self.prepare(gallery, version, len(rows[0].vector))
        collection = _collection(gallery, version)
        try:
            for start in range(0, len(rows), _WRITTEN_AT_ONCE):
                data = [_fields(row) for row in rows[start : start + _WRITTEN_AT_ONCE]]
                async with self._writers[collection]:
                    with self._errors(f"write to {collection}"):
                        await self._client.upsert(collection, data, timeout=self._timeout_s)
            # Searches take what a server has at hand (Bounded), because waiting for the newest
            # (Strong) would cost each of them up to a tick of Milvus' clock (200 ms). It is the
            # writer who waits that long, until a server has the last of these rows at hand.
            await self._ids(collection, ids_in([rows[-1].id]), 1)
            await self._switch(gallery, version)
        except NotFound as error:
            self._prepared.discard(collection)
            raise Unavailable(f"{collection} was dropped; it is made again") from error

    async def search(
        self,
        gallery: str,
        vector: NDArray[np.float32],
        top_k: int,
        offset: int = 0,
        expression: str = "",
    ) -> list[Match]:
        """The images with the greatest cosine similarity to `vector` (dimension,), best first."""
        with self._errors(f"search gallery {gallery}"):
            (hits,) = await self._read(
                self._client.search,
                _alias(gallery),
                data=[vector],
                filter=expression,
                limit=top_k,
                offset=offset,
                output_fields=["camera", "captured_at", "tags"],
                search_params=self._search_params,
            )
        return [_match(hit) for hit in hits]

    async def vector_of(self, gallery: str, id_: int) -> NDArray[np.float32] | None:
        """The vector of one image, or None if the gallery does not have it."""
        with self._errors(f"read from gallery {gallery}"):
            rows = await self._read(
                self._client.get, _alias(gallery), ids=[id_], output_fields=["vector"]
            )
        return np.asarray(rows[0]["vector"], np.float32) if rows else None

    async def delete(self, gallery: str, ids: Sequence[int]) -> int:
        """Takes rows out of all versions of the gallery; returns how many images were there."""
        collections = await self._collections(gallery)
        if not collections:
            raise NotFound(_no_gallery(gallery))
        deleted = 0
        for start in range(0, len(ids), _PAGE):
            page = list(ids[start : start + _PAGE])
            there: set[int] = set()
            for collection in collections:
                there.update(await self._ids(collection, ids_in(page), len(page)))
                async with self._writers[collection]:
                    with self._errors(f"delete rows of {collection}"):
                        await self._client.delete(collection, page, timeout=self._timeout_s)
            deleted += len(there)
        return deleted

    def ids_matching(self, gallery: str, expression: str) -> AsyncIterator[list[int]]:
        """All ids that the expression matches, in pages."""
        return self._pages(_alias(gallery), expression)

    async def count(self, gallery: str) -> int:
        """Images that a search can find, counted now and not estimated."""
        return await self._count(_alias(gallery))

    async def model_version(self, gallery: str) -> str:
        """Version of the model that the gallery is served with."""
        with self._errors(f"look up gallery {gallery}"):
            answer = await self._client.describe_alias(_alias(gallery), timeout=self._timeout_s)
        return str(answer["collection_name"]).split("_", 2)[1]

    async def galleries(self) -> list[str]:
        """The names of all galleries, sorted."""
        with self._errors("list galleries"):
            collections = await self._client.list_collections(timeout=self._timeout_s)
            # One collection at a time: the asynchronous client cannot ask for all aliases.
            answers = await asyncio.gather(
                *(
                    self._client.list_aliases(collection, timeout=self._timeout_s)
                    for collection in collections
                    if collection.startswith("vectors_")
                )
            )
        return sorted(
            alias.removeprefix("gallery_").replace("_", "-")
            for aliases in answers
            for alias in aliases
            if alias.startswith("gallery_")
        )

    def _make(self, collection: str, dimension: int, alias: str) -> None:
        """Each step asks first and tolerates that another process was faster."""
        # Lite lacks a call that the asynchronous client makes after creating an index.
        client = MilvusClient(
            self._uri,
            token=self._token,
            timeout=self._timeout_s,
            dedicated=True,
            grpc_options=_GRPC_OPTIONS,
        )
        try:
            if not client.has_collection(collection):
                schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
                schema.add_field("id", DataType.INT64, is_primary=True)
                schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
                schema.add_field("camera", DataType.VARCHAR, max_length=MAX_CAMERA_BYTES)
                schema.add_field("captured_at", DataType.INT64)
                schema.add_field("tags", DataType.JSON)
                with _unless(lambda: client.has_collection(collection)):
                    client.create_collection(collection, schema=schema, consistency_level="Bounded")
                    log.info("collection_made", collection=collection, dimension=dimension)
            if not client.list_indexes(collection):
                index = client.prepare_index_params()
                index.add_index(
                    "vector",
                    index_type=self._index,
                    metric_type="COSINE",
                    params=self._index_params,
                )
                with _unless(lambda: bool(client.list_indexes(collection))):
                    client.create_index(collection, index)
            client.load_collection(collection)
            try:
                client.describe_alias(alias)
            except MilvusException as error:
                if error.code not in _NOT_FOUND:
                    raise
                with _unless(lambda: bool(client.describe_alias(alias))):
                    client.create_alias(collection, alias)
        finally:
            client.close()

    async def _switch(self, gallery: str, version: str) -> None:
        """Has the gallery served from this version's collection as soon as no image is lost by it.

        Asked each time, because processes that embed with different models may switch in turns.
        """
        new = _collection(gallery, version)
        async with self._switching[gallery]:
            serving = await self.model_version(gallery)
            if serving == version:
                return
            old = _collection(gallery, serving)
            indexed, images = await self._count(new), await self._count(old)
            event = log.bind(gallery=gallery, serving=serving, indexing=version)
            if indexed < images:
                event.info("another_model_serves", images=images, indexed=indexed)
                return
            missing = self._missing[new] = await self._first_missing(new, old)
            if missing:
                event.info(
                    "another_model_serves", missing_at_least=len(missing), for_example=missing[0]
                )
                return
            with self._errors(f"switch gallery {gallery} to model {version}"):
                await self._client.alter_alias(new, _alias(gallery), timeout=self._timeout_s)
            log.info("gallery_switched", gallery=gallery, was=serving, now=version, images=indexed)

    async def _first_missing(self, new: str, old: str) -> list[int]:
        """Some ids that `old` has and `new` has not; none if `new` has them all."""
        # All are compared only when those have come that were missing last, so rarely.
        before = self._missing.get(new)
        if before:
            missing = await self._lacking(new, await self._ids(old, ids_in(before), len(before)))
            if missing:
                return missing
        async for page in self._pages(old):
            missing = await self._lacking(new, page)
            if missing:
                return missing
        return []

    async def _lacking(self, collection: str, ids: list[int]) -> list[int]:
        there = set(await self._ids(collection, ids_in(ids), len(ids))) if ids else set()
        return [id_ for id_ in ids if id_ not in there]

    async def _pages(self, collection: str, expression: str = "") -> AsyncIterator[list[int]]:
        # No server promises an order of rows and each cuts long answers off. Ids are hashes, so
        # halving their range until the answers are whole gives even pages anywhere.
        ranges = [(0, 2**63 - 1)]
        while ranges:
            low, high = ranges.pop()
            page = await self._ids(collection, both(expression, id_range(low, high)), _PAGE)
            if len(page) < _PAGE:
                if page:
                    yield page
            else:
                middle = (low + high) // 2
                ranges += [(low, middle), (middle, high)]

    async def _collections(self, gallery: str) -> list[str]:
        with self._errors("list collections"):
            names = await self._client.list_collections(timeout=self._timeout_s)
        stored = gallery.replace("-", "_")
        return [
            name
            for name in names
            if name.startswith("vectors_") and name.split("_", 2)[2:] == [stored]
        ]

    async def _count(self, collection: str) -> int:
        with self._errors(f"count {collection}"):
            rows = await self._read(
                self._client.query,
                collection,
                filter="",
                output_fields=["count(*)"],
                consistency_level="Strong",
            )
        return int(rows[0]["count(*)"])

    async def _ids(self, collection: str, expression: str, limit: int) -> list[int]:
        with self._errors(f"query {collection}"):
            rows = await self._read(
                self._client.query,
                collection,
                filter=expression,
                output_fields=["id"],
                limit=limit,
                consistency_level="Strong",
            )
        return [int(row["id"]) for row in rows]

    async def _read(
        self, call: Callable[..., Awaitable[Any]], collection: str, **arguments: Any
    ) -> Any:
        """What needs the collection in memory; Lite's server has none there after a restart."""
        try:
            return await call(collection, timeout=self._timeout_s, **arguments)
        except MilvusException as error:
            if error.code != _NOT_LOADED:
                raise
        await self._client.load_collection(collection, timeout=self._timeout_s)
        return await call(collection, timeout=self._timeout_s, **arguments)

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """The one place that says what an error of Milvus means to a caller."""
        try:
            yield
        except MilvusException as error:
            if error.code in _NOT_FOUND:
                raise NotFound(f"Milvus cannot {what}: {first_line(error)}") from error
            if error.code in _REFUSED or isinstance(error, ParamError | DataNotMatchException):
                raise MilvusRefused(f"Milvus refuses to {what}: {first_line(error)}") from error
            raise Unavailable(f"Milvus cannot {what}: {first_line(error)}") from error
        except (grpc.RpcError, TimeoutError, ConnectionError) as error:
            raise Unavailable(
                f"Milvus at {self._uri} cannot {what}: {first_line(error)}"
            ) from error


@contextlib.contextmanager
def _unless(done: Any) -> Iterator[None]:
    """Passes over the failure to make what another process has made in between."""
    try:
        yield
    except MilvusException:
        if not done():
            raise


def _collection(gallery: str, version: str) -> str:
    return f"vectors_{version}_{gallery.replace('-', '_')}"


def _alias(gallery: str) -> str:
    # Names of galleries hold no underscore, so no two share an alias.
    return f"gallery_{gallery.replace('-', '_')}"


def _no_gallery(gallery: str) -> str:
    return f"there is no gallery {gallery!r}; push an image to it first"


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
