"""A gallery's collections in Milvus: one for each model version, and an alias on the served one."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator

import structlog
from pymilvus import DataType, MilvusException

from services.gallery.collection_names import CollectionName, alias_name, gallery_of_alias
from services.gallery.filters import ids_in
from services.gallery.index import Index
from services.gallery.milvus_connection import NOT_FOUND, Milvus
from services.runtime.errors import NotFound, ServiceError

log = structlog.get_logger()

# Calls of one question at the same time.
_CONCURRENT = 8
MAX_CAMERA_BYTES = 256
# Milvus' limit of a JSON field.
MAX_TAGS_BYTES = 65_536


class ModelVersions:
    """Which versions each gallery is embedded with, and which of them searches use."""

    def __init__(self, milvus: Milvus, index: Index) -> None:
        self._milvus = milvus
        self._index = index
        self._prepared: set[str] = set()
        self._making: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._switching: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        # Collection -> ids that it lacked, when last compared, to take a gallery over.
        self._missing: dict[str, list[int]] = {}

    async def prepare(self, gallery: str, version: str, dimension: int) -> None:
        """Makes the collection and, for a new gallery, the alias, unless they exist.

        It may be called at the same time by several processes and after one died half-way.
        """
        collection = str(CollectionName(gallery, version))
        async with self._making[collection]:
            if collection not in self._prepared:
                with self._milvus.errors(f"make collection {collection}"):
                    await asyncio.to_thread(self._make, collection, dimension, alias_name(gallery))
                self._prepared.add(collection)

    def dropped(self, gallery: str, version: str) -> None:
        """Has the collection prepared again next time."""
        self._prepared.discard(str(CollectionName(gallery, version)))

    async def serving(self, gallery: str) -> str:
        """The version that searches use."""
        with self._milvus.errors(f"find gallery {gallery}"):
            answer = await self._milvus.client.describe_alias(
                alias_name(gallery), timeout=self._milvus.timeout_s
            )
        name = CollectionName.parse(answer["collection_name"])
        if name is None:
            raise ServiceError(
                f"{alias_name(gallery)} points to {answer['collection_name']}, which "
                "Passerby did not create"
            )
        return name.version

    async def switch_when_complete(self, gallery: str, version: str) -> str:
        """Has searches use this version as soon as they lose no image by it. Returns the version
        that they use then.

        Asked each time, because processes that embed with different models may switch in turns.
        """
        new = str(CollectionName(gallery, version))
        async with self._switching[gallery]:
            serving = await self.serving(gallery)
            if serving == version:
                return version
            old = str(CollectionName(gallery, serving))
            indexed, images = await self._milvus.count(new), await self._milvus.count(old)
            event = log.bind(gallery=gallery, serving=serving, indexing=version)
            if indexed < images:
                event.info("another_model_serves", images=images, indexed=indexed)
                return serving
            missing = self._missing[new] = await self._first_missing(new, old)
            if missing:
                event.info(
                    "another_model_serves", missing_at_least=len(missing), for_example=missing[0]
                )
                return serving
            with self._milvus.errors(f"switch gallery {gallery} to model {version}"):
                await self._milvus.client.alter_alias(
                    new, alias_name(gallery), timeout=self._milvus.timeout_s
                )
            log.info("gallery_switched", gallery=gallery, was=serving, now=version, images=indexed)
            return version

    async def collections(self, gallery: str) -> list[str]:
        """The collections of all its versions."""
        with self._milvus.errors("list collections"):
            names = await self._milvus.client.list_collections(timeout=self._milvus.timeout_s)
        parsed = [CollectionName.parse(name) for name in names]
        return [str(name) for name in parsed if name and name.gallery == gallery]

    async def drop(self, gallery: str) -> None:
        """Drops the alias and the collections of all versions; those that are gone are passed
        over."""
        client, timeout_s = self._milvus.client, self._milvus.timeout_s
        with contextlib.suppress(NotFound), self._milvus.errors(f"drop the alias of {gallery}"):
            await client.drop_alias(alias_name(gallery), timeout=timeout_s)
        for collection in await self.collections(gallery):
            with contextlib.suppress(NotFound), self._milvus.errors(f"drop {collection}"):
                await client.drop_collection(collection, timeout=timeout_s)
            self._prepared.discard(collection)

    async def begun(self) -> set[str]:
        """The names of all galleries that have a collection: one call, however many there are."""
        with self._milvus.errors("list collections"):
            names = await self._milvus.client.list_collections(timeout=self._milvus.timeout_s)
        parsed = [CollectionName.parse(name) for name in names]
        return {name.gallery for name in parsed if name}

    async def galleries(self) -> list[str]:
        """The names of all galleries, sorted."""
        client, timeout_s = self._milvus.client, self._milvus.timeout_s
        with self._milvus.errors("list galleries"):
            collections = await client.list_collections(timeout=timeout_s)
            slots = asyncio.Semaphore(_CONCURRENT)

            async def aliases_of(collection: str) -> list[str]:
                async with slots:
                    aliases: list[str] = await client.list_aliases(collection, timeout=timeout_s)
                    return aliases

            # One collection at a time: the asynchronous client cannot ask for all aliases.
            answers = await asyncio.gather(
                *(aliases_of(name) for name in collections if CollectionName.parse(name))
            )
        galleries = [gallery_of_alias(alias) for aliases in answers for alias in aliases]
        return sorted(gallery for gallery in galleries if gallery is not None)

    def _make(self, collection: str, dimension: int, alias: str) -> None:
        """Each step asks first and tolerates that another process was faster."""
        # Lite lacks a call that the asynchronous client makes after creating an index.
        with self._milvus.blocking() as client:
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
                    index_type=self._index.kind,
                    metric_type="COSINE",
                    params=self._index.building,
                )
                with _unless(lambda: bool(client.list_indexes(collection))):
                    client.create_index(collection, index)
            client.load_collection(collection)
            try:
                client.describe_alias(alias)
            except MilvusException as error:
                if error.code not in NOT_FOUND:
                    raise
                with _unless(lambda: bool(client.describe_alias(alias))):
                    client.create_alias(collection, alias)

    async def _first_missing(self, new: str, old: str) -> list[int]:
        """Some ids that `old` has and `new` has not; none if `new` has them all."""
        # All are compared only when those have come that were missing last, so rarely.
        before = self._missing.get(new)
        if before:
            wanted = await self._milvus.ids(old, ids_in(before), len(before))
            missing = await self._milvus.lacking(new, wanted)
            if missing:
                return missing
        async for page in self._milvus.pages(old):
            missing = await self._milvus.lacking(new, page)
            if missing:
                return missing
        return []


@contextlib.contextmanager
def _unless(done: Callable[[], bool]) -> Iterator[None]:
    """Passes over the failure to make what another process has made in between."""
    try:
        yield
    except MilvusException:
        if not done():
            raise
