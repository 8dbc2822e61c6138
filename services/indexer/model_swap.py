"""From one model's vectors to the next one's: a gallery is embedded anew beside the vectors that
serve it, and no image is missing from searches meanwhile."""

from collections.abc import Mapping, Sequence

import structlog

from services.gallery.vectors import Row, Vectors
from services.indexer.embedding import ImageEmbedder
from services.indexer.item import Item, row
from services.indexer.metrics import stage
from services.indexer.retry import retry_until_available
from services.runtime.embedder_client import Embedding
from services.runtime.errors import WrongModel

log = structlog.get_logger()


class ModelSwap:
    """Writes vectors of any model version, and says which one serves the gallery."""

    def __init__(self, embedder: ImageEmbedder, vectors: Vectors) -> None:
        self._embedder = embedder
        self._vectors = vectors

    async def write(self, gallery: str, version: str, rows: Sequence[Row]) -> str:
        """Writes the rows and, once this version has all of the gallery's images, has it serve.

        Returns the version that serves then: if it is this one, searches find the rows.
        """

        async def attempt() -> str:
            await self._vectors.upsert(gallery, version, rows)
            return await self._vectors.switch_when_complete(gallery, version)

        with stage("vectors"):
            return await retry_until_available(attempt)

    async def write_as_served(self, gallery: str, serving: str, items: Mapping[int, Item]) -> None:
        """Gives the images (by id) vectors of the serving version too: until the switch, searches
        would not find them.

        Images that have such a vector keep it, or embedding a whole gallery anew would cost twice.
        """
        ids = await retry_until_available(
            lambda: self._vectors.lacking(gallery, serving, list(items))
        )
        if not ids:
            return
        try:
            with stage("embed"):
                results = await self._embedder.embed([items[id_].data for id_ in ids], serving)
        except WrongModel as error:
            # They are written for the next version, and found once the gallery is switched to it.
            log.warning("not_searchable_yet", gallery=gallery, images=len(ids), reason=str(error))
            return
        rows = [
            row(id_, items[id_].image, result)
            for id_, result in zip(ids, results, strict=True)
            if isinstance(result, Embedding)
        ]
        if rows:
            # No switch: the gallery may have been switched meanwhile, and must not go back.
            with stage("vectors"):
                await retry_until_available(lambda: self._vectors.upsert(gallery, serving, rows))
