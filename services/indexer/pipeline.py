"""From pushed images to searchable ones, part by part: prepare (fetch, embed), then write
(names, images, vectors)."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence

import structlog

from services.gallery.digests import Digests, indexed
from services.gallery.images import Images
from services.gallery.names import Names
from services.gallery.vectors import Row, Vectors
from services.indexer.embedding import ImageEmbedder
from services.indexer.entries import Entry, InvalidImageEntry, shown
from services.indexer.gallery_limit import GalleryLimit
from services.indexer.item import Item, row
from services.indexer.metrics import IMAGES, stage
from services.indexer.model_swap import ModelSwap
from services.indexer.retry import retry_until_available
from services.indexer.sources import ReadBudget, Sources
from services.runtime.embedder_client import Rejected
from services.runtime.errors import Unavailable

log = structlog.get_logger()

_FETCH_TRIES = 3
# Bytes of fetched images after which a part is complete: these are written before more are read.
_PART_BYTES = 32 * 1024 * 1024
_EMPTY = "0 bytes; push the image again or leave it out"


class Pipeline:
    """Prepares and writes entries. What it needs may be away: it retries, and drops no image."""

    def __init__(
        self,
        sources: Sources,
        embedder: ImageEmbedder,
        names: Names,
        digests: Digests,
        vectors: Vectors,
        images: Images | None,
        max_image_bytes: int,
        max_galleries: int,
    ) -> None:
        self._sources = sources
        self._embedder = embedder
        self._names = names
        self._digests = digests
        self._vectors = vectors
        self._images = images
        self._max_image_bytes = max_image_bytes
        self._swap = ModelSwap(embedder, vectors)
        self._galleries = GalleryLimit(vectors, max_galleries)

    # Prepare: fetch, embed.

    async def prepare(self, entries: Sequence[Entry]) -> AsyncGenerator[list[Item], None]:
        """Yields the entries' images in order, embedded, in parts that fit into memory.

        Rejected images become dead letters of their entry. An entry with images on a storage that
        does not answer is marked as deferred, and none of its images comes from then on. Once the
        next part is asked for, the bytes of the last one are freed.
        """
        await self._galleries.reject_beyond(entries)
        items = [Item(entry, image) for entry in entries for image in entry.images]
        self._take_data(items)
        while items:
            with stage("fetch"):
                await self._fetch(items)
            items = [item for item in items if not (item.rejected or item.entry.deferred)]
            part = list(itertools.takewhile(lambda item: item.data, items))
            del items[: len(part)]
            with stage("embed"):
                await self._embed(part)
            yield [item for item in part if item.embedding]
            for item in part:
                item.data = b""

    def _take_data(self, items: Iterable[Item]) -> None:
        """Fills in the bytes of the images that came with theirs."""
        for item in items:
            if item.image.WhichOneof("source") == "uri":
                continue
            if len(item.image.data) > self._max_image_bytes:
                item.reject(
                    f"{shown(item.image)}: more than {self._max_image_bytes:,} bytes; "
                    "scale the image down"
                )
            elif not item.image.data:
                item.reject(f"{shown(item.image)}: {_EMPTY}")
            else:
                item.data = item.image.data

    async def _fetch(self, items: Sequence[Item]) -> None:
        """Fills in the bytes of the images that came by uri: of the first in any case, and of more
        as long as the part has room."""
        remote = [item for item in items if item.image.WhichOneof("source") == "uri"]
        budget = ReadBudget(_PART_BYTES - sum(len(item.data) for item in remote))
        await asyncio.gather(
            *(
                self._fetch_one(item, budget, even_if_spent=item is items[0])
                for item in remote
                if not item.data
            )
        )

    async def _fetch_one(self, item: Item, budget: ReadBudget, *, even_if_spent: bool) -> None:
        try:
            data = await self._read(item.image.uri, budget, even_if_spent=even_if_spent)
        except InvalidImageEntry as invalid:
            item.reject(str(invalid))
        except Unavailable as error:
            item.entry.deferred = True
            log.warning("storage_unavailable", entry=item.entry.id.decode(), reason=str(error))
        else:
            if data == b"":
                item.reject(f"{shown(item.image)}: {_EMPTY}")
            elif data is not None:
                item.data = data

    async def _read(self, uri: str, budget: ReadBudget, *, even_if_spent: bool) -> bytes | None:
        """A few attempts, not endless ones: other entries do not need this storage."""
        for attempt in range(1, _FETCH_TRIES):
            try:
                return await self._sources.read(uri, budget, even_if_spent=even_if_spent)
            except Unavailable:
                await asyncio.sleep(0.2 * attempt)
        return await self._sources.read(uri, budget, even_if_spent=even_if_spent)

    async def _embed(self, part: Sequence[Item]) -> None:
        results = await self._embedder.embed([item.data for item in part])
        for item, result in zip(part, results, strict=True):
            if isinstance(result, Rejected):
                item.reject(f"{shown(item.image)}: {result.reason}")
            else:
                item.embedding = result

    # Write: names, images, vectors.

    async def write(self, part: Iterable[Item]) -> None:
        """Makes a prepared part searchable. Of several images of one name the last one wins."""
        galleries: defaultdict[str, dict[str, Item]] = defaultdict(dict)
        for item in part:
            galleries[item.entry.gallery][item.image.filename] = item
        await asyncio.gather(
            *(
                self._write_gallery(gallery, list(of_name.values()))
                for gallery, of_name in galleries.items()
            )
        )

    async def _write_gallery(self, gallery: str, items: Sequence[Item]) -> None:
        """Names, then image bytes, then vectors: a hit always has its name and its image. Last what
        was indexed: who is told that an image is unchanged finds it.

        Invariant: a row exists if and only if its name exists. A deletion at the same time may
        take a name just before the vector is written, so this is checked after writing.
        """
        filenames = [item.image.filename for item in items]
        ids = await self._claim(gallery, filenames)
        while True:
            named = {id_: item for id_, item in zip(ids, items, strict=True) if id_ is not None}
            await self._write_images(gallery, named)
            await self._write_vectors(gallery, named)
            claimed = await self._claim(gallery, filenames)
            if claimed == ids:
                break
            ids = claimed
        await self._record(gallery, named)
        for id_, item in zip(ids, items, strict=True):
            if id_ is None:
                item.reject(
                    f"{shown(item.image)}: every id that this name can get is taken; "
                    "rename the image"
                )
        IMAGES.inc(len(named))

    async def _claim(self, gallery: str, filenames: Sequence[str]) -> list[int | None]:
        with stage("names"):
            return await retry_until_available(lambda: self._names.claim(gallery, filenames))

    async def _write_images(self, gallery: str, named: Mapping[int, Item]) -> None:
        if self._images is None:
            return
        images, data = self._images, {id_: item.data for id_, item in named.items()}
        with stage("images"):
            await retry_until_available(lambda: images.put(gallery, data))

    async def _record(self, gallery: str, named: Mapping[int, Item]) -> None:
        """So that a push leaves out what it would not change."""
        kept = self._images is not None
        records = {
            id_: indexed(item.embedding.version, item.image.digest, kept=kept)
            if item.embedding and item.image.digest
            else b""
            for id_, item in named.items()
        }
        with stage("names"):
            await retry_until_available(lambda: self._digests.put(gallery, records))

    async def _write_vectors(self, gallery: str, named: Mapping[int, Item]) -> None:
        """By model version: while embedders are replaced, one part may hold vectors of two."""
        versions: defaultdict[str, list[Row]] = defaultdict(list)
        for id_, item in named.items():
            if item.embedding:
                versions[item.embedding.version].append(row(id_, item.image, item.embedding))
        for version, rows in versions.items():
            serving = await self._swap.write(gallery, version, rows)
            if serving != version:
                await self._swap.write_as_served(
                    gallery, serving, {row.id: named[row.id] for row in rows}
                )
