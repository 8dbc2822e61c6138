"""How many galleries there may be: each is a collection that Milvus keeps loaded."""

import time
from collections.abc import Callable, Sequence

from services.gallery.vectors import Vectors
from services.indexer.entries import Entry
from services.indexer.retry import retry_until_available
from services.indexer.settings import IndexerSettings
from services.runtime.settings import limit_of

GALLERIES = limit_of(
    IndexerSettings, "max_galleries", "galleries", "galleries", "dead letter of the whole entry"
)
LIMITS = (GALLERIES,)
# After which Milvus is asked again whether a gallery is still there.
_KNOWN_S = 60.0


class GalleryLimit:
    """Several indexers that begin galleries at the same moment may go a little beyond it."""

    def __init__(
        self, vectors: Vectors, limit: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._vectors = vectors
        self._limit = GALLERIES.at(limit)
        self._clock = clock
        self._known: set[str] = set()
        self._asked_at = 0.0

    async def reject_beyond(self, entries: Sequence[Entry]) -> None:
        """Rejects the entries that would make one gallery too many."""
        fresh = self._clock() - self._asked_at < _KNOWN_S
        if fresh and self._known.issuperset(entry.gallery for entry in entries if entry.images):
            return
        self._known = await retry_until_available(self._vectors.begun)
        self._asked_at = self._clock()
        for entry in entries:
            if not entry.images or entry.gallery in self._known:
                continue
            if len(self._known) >= self._limit.value:
                entry.reject(
                    f"gallery {entry.gallery}: {self._limit.exceeded(len(self._known) + 1)}; "
                    "delete one with `passerby delete --gallery NAME --all`, then push again"
                )
            else:
                self._known.add(entry.gallery)
