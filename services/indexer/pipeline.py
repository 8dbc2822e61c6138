"""From pushed images to searchable ones: fetch, embed, write names, images and vectors."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from passerby.v1.queue_pb2 import Image
from services.gallery.images import Images
from services.gallery.names import Names
from services.gallery.vectors import Row, Vectors
from services.indexer.embedding import ImageEmbedder
from services.indexer.entries import Entry, Refused, shown
from services.indexer.metrics import IMAGES, STAGE_SECONDS
from services.indexer.retry import retry_until_available
from services.indexer.sources import Sources
from services.runtime.embedder_client import Embedding, Rejected
from services.runtime.errors import EmbedderFailed, Unavailable, WrongModel

log = structlog.get_logger()

_FETCH_TRIES = 3
# Bytes of fetched images after which a batch begins no other read before it has written these.
_FETCHED_BYTES = 32 * 1024 * 1024
_EMPTY = "0 bytes; push the image again or leave it out"


@dataclass
class _Item:
    """One image on its way."""

    entry: Entry
    image: Image
    data: bytes = b""
    embedding: Embedding | None = None
    refused: bool = False

    def refuse(self, reason: str) -> None:
        self.refused = True
        self.entry.refuse_image(self.image, f"{shown(self.image)}: {reason}")


class Pipeline:
    """Indexes entries. What it needs may be away: it waits for it, and never drops an image."""

    def __init__(
        self,
        sources: Sources,
        embedder: ImageEmbedder,
        names: Names,
        vectors: Vectors,
        images: Images | None,
        max_image_bytes: int,
    ) -> None:
        self._sources = sources
        self._embedder = embedder
        self._names = names
        self._vectors = vectors
        self._images = images
        self._max_image_bytes = max_image_bytes

    async def index(
        self, entries: Sequence[Entry], turn: Callable[[], Awaitable[object]]
    ) -> list[Entry]:
        """Makes the entries' images searchable; adds what is refused to their letters.

        turn: awaited before the first write; embedding overlaps with earlier entries, but an
        image that was pushed twice is written in the order in which it was pushed.
        Returns the entries that are finished: all but those whose images lie on a storage that
        does not answer.
        """
        items = [_Item(entry, image) for entry in entries for image in entry.images]
        postponed: set[bytes] = set()
        self._take_data(items)
        while items:
            with STAGE_SECONDS.labels("fetch").time():
                await self._fetch(items, postponed)
            items = [item for item in items if item.entry.id not in postponed and not item.refused]
            fetched = list(itertools.takewhile(lambda item: item.data, items))
            del items[: len(fetched)]
            await self._index(fetched, turn)
            for item in fetched:
                item.data = b""  # room for the next ones
        return [entry for entry in entries if entry.id not in postponed]

    async def _index(self, items: list[_Item], turn: Callable[[], Awaitable[object]]) -> None:
        with STAGE_SECONDS.labels("embed").time():
            await self._embed(items)
        await turn()
        # The last readable one of a name wins.
        galleries: defaultdict[str, dict[str, _Item]] = defaultdict(dict)
        for item in items:
            if item.embedding:
                galleries[item.entry.gallery][item.image.filename] = item
        await asyncio.gather(
            *(self._write(gallery, list(of.values())) for gallery, of in galleries.items())
        )

    def _take_data(self, items: Iterable[_Item]) -> None:
        """Fills in the bytes of the images that came with theirs."""
        for item in items:
            if item.image.WhichOneof("source") == "uri":
                continue
            if len(item.image.data) > self._max_image_bytes:
                item.refuse(f"more than {self._max_image_bytes:,} bytes; scale the image down")
            elif not item.image.data:
                item.refuse(_EMPTY)
            else:
                item.data = item.image.data

    async def _fetch(self, items: Sequence[_Item], postponed: set[bytes]) -> None:
        """Fills in the bytes of the other images: of the first in any case, and of more as long as
        there is room. Adds the ids of entries that must wait for a storage."""
        remote = [item for item in items if item.image.WhichOneof("source") == "uri"]
        held = sum(len(item.data) for item in remote)

        async def fetch(item: _Item) -> None:
            nonlocal held
            try:
                data = await self._read(
                    item.image.uri, lambda: held < _FETCHED_BYTES or item is items[0]
                )
            except Refused as refused:
                item.refused = True
                item.entry.refuse_image(item.image, str(refused))
            except Unavailable as error:
                postponed.add(item.entry.id)
                log.warning("storage_away", entry=item.entry.id.decode(), reason=str(error))
            else:
                if data == b"":
                    item.refuse(_EMPTY)
                elif data is not None:
                    item.data = data
                    held += len(data)

        await asyncio.gather(*(fetch(item) for item in remote if not item.data))

    async def _read(self, uri: str, wanted: Callable[[], bool]) -> bytes | None:
        """Some tries, not endless ones: other entries do not need this storage."""
        for attempt in range(1, _FETCH_TRIES):
            try:
                return await self._sources.read(uri, wanted)
            except Unavailable:
                await asyncio.sleep(0.2 * attempt)
        return await self._sources.read(uri, wanted)

    async def _embed(self, items: Sequence[_Item]) -> None:
        results = await self._embedder.embed([item.data for item in items])
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Rejected):
                item.refuse(result.reason)
            else:
                item.embedding = result

    async def _write(self, gallery: str, items: list[_Item]) -> None:
        """Names, then image bytes, then vectors: a hit always has its name and its image."""
        filenames = [item.image.filename for item in items]
        with STAGE_SECONDS.labels("names").time():
            ids = await retry_until_available(lambda: self._names.claim(gallery, filenames))
        before: list[int | None] = []
        while ids != before:
            named = {id_: item for id_, item in zip(ids, items, strict=True) if id_ is not None}
            await self._store(gallery, named)
            # A deletion at the same time may have taken a name just before the vector came.
            with STAGE_SECONDS.labels("names").time():
                before, ids = (
                    ids,
                    await retry_until_available(lambda: self._names.claim(gallery, filenames)),
                )
        for id_, item in zip(ids, items, strict=True):
            if id_ is None:
                item.refuse("all ids that this name may have are taken; rename the image")
        IMAGES.inc(len(named))

    async def _store(self, gallery: str, named: dict[int, _Item]) -> None:
        if self._images is not None:
            images, kept = self._images, {id_: item.data for id_, item in named.items()}
            with STAGE_SECONDS.labels("images").time():
                await retry_until_available(lambda: images.put(gallery, kept))
        versions: defaultdict[str, list[Row]] = defaultdict(list)
        for id_, item in named.items():
            if item.embedding:
                versions[item.embedding.version].append(_row(id_, item.image, item.embedding))
        for version, rows in versions.items():
            serving = await self._upsert(gallery, version, rows)
            if serving != version:
                written = {row.id: named[row.id] for row in rows}
                await self._embed_as_served(gallery, serving, written)

    async def _embed_as_served(self, gallery: str, serving: str, named: dict[int, _Item]) -> None:
        """Embeds the images for the model that searches use, too: until the gallery is switched
        they would not be found.

        Those that it has already keep their vectors, or embedding a whole gallery anew for another
        model would cost twice.
        """
        ids = await retry_until_available(
            lambda: self._vectors.lacking(gallery, serving, list(named))
        )
        if not ids:
            return
        try:
            with STAGE_SECONDS.labels("embed").time():
                results = await self._embedder.embed([named[id_].data for id_ in ids], serving)
        except (WrongModel, EmbedderFailed) as error:
            # They are kept, and found once the gallery is switched.
            log.warning("not_found_yet", gallery=gallery, images=len(ids), reason=str(error))
            return
        rows = [
            _row(id_, named[id_].image, result)
            for id_, result in zip(ids, results, strict=True)
            if isinstance(result, Embedding)
        ]
        if rows:
            # The gallery may have been switched meanwhile, and this shall not switch it back.
            await self._upsert(gallery, serving, rows, switch=False)

    async def _upsert(
        self, gallery: str, version: str, rows: list[Row], *, switch: bool = True
    ) -> str:
        with STAGE_SECONDS.labels("vectors").time():
            return await retry_until_available(
                lambda: self._vectors.upsert(gallery, version, rows, switch=switch)
            )


def _row(id_: int, image: Image, embedding: Embedding) -> Row:
    return Row(
        id_,
        embedding.vector,
        image.camera,
        image.captured_at.ToMicroseconds() if image.HasField("captured_at") else None,
        dict(image.tags),
    )
