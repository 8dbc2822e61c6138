"""Readiness of Milvus: after it was away, searches of the galleries have to succeed first."""

import asyncio
import contextlib
from collections.abc import Iterator

import structlog

from services.gallery.vectors import Vectors
from services.runtime.errors import NotFound, ServiceError, Unavailable, first_line

log = structlog.get_logger()

# Milvus answers long before it has loaded the collections; a gallery that it cannot load at all may
# keep the others away for this long.
PATIENCE_S = 120
# So that one probe gets through several galleries that are still being loaded.
SEARCH_TIMEOUT_S = 2
_CONCURRENT = 8


class Searchable:
    """A probe. From the start, and each time that Milvus was away, it raises Unavailable until
    every gallery was searched once, or for PATIENCE_S if some of them can be searched. After that
    it asks Milvus for a sign of life only: searches would cost, and slow ones are no reason to stop
    serving.
    """

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors
        self._forget()

    def _forget(self) -> None:
        self._ready = False
        self._searched: set[str] = set()
        self._answers_since: float | None = None

    async def __call__(self) -> None:
        with self._forgetting_when_away():
            if self._ready:
                await self._vectors.ping()
                return
            galleries = await self._vectors.galleries()
        now = asyncio.get_running_loop().time()
        if self._answers_since is None:
            self._answers_since = now
        if self._searched and now - self._answers_since > PATIENCE_S:
            missing = sorted(set(galleries) - self._searched)
            log.warning("not_searchable", galleries=missing[:10], count=len(missing))
        else:
            await self._search(sorted(set(galleries) - self._searched))
        self._ready = True

    @contextlib.contextmanager
    def _forgetting_when_away(self) -> Iterator[None]:
        try:
            yield
        except BaseException:  # a probe that takes too long is cancelled
            self._forget()
            raise

    async def _search(self, galleries: list[str]) -> None:
        slots = asyncio.Semaphore(_CONCURRENT)

        async def problem_of(gallery: str) -> str | None:
            async with slots:
                try:
                    async with asyncio.timeout(SEARCH_TIMEOUT_S):
                        await self._vectors.try_search(gallery)
                except NotFound:  # dropped since it was listed
                    return None
                except TimeoutError:
                    return f"no answer within {SEARCH_TIMEOUT_S} s"
                except ServiceError as error:
                    return first_line(error)
            self._searched.add(gallery)
            return None

        problems = await asyncio.gather(*(problem_of(gallery) for gallery in galleries))
        waiting = [(gallery, why) for gallery, why in zip(galleries, problems, strict=True) if why]
        if waiting:
            gallery, why = waiting[0]
            others = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
            raise Unavailable(f"gallery {gallery}{others} cannot be searched yet: {why}")
