"""An indexer's parts in this process, so that a test may reach between them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis

from passerby.contract import INGEST_STREAM
from services.gallery.digests import Digests
from services.gallery.gallery_deletions import GalleryDeletions
from services.gallery.names import Names
from services.gallery.redis_connection import connect as connect_redis
from services.gallery.vectors import Vectors
from services.indexer.attempts import Attempts
from services.indexer.consumer import Consumer
from services.indexer.embedding import ImageEmbedder
from services.indexer.pipeline import Pipeline
from services.indexer.settings import IndexerSettings
from services.indexer.sources import Sources
from services.indexer.stream import Stream
from services.runtime.embedder_client import EmbedderClient, Embedding
from services.runtime.grpc_client import connect
from tests.support.indexer import Stack


class Indexer:
    """What a test may reach between; it works while `running`."""

    def __init__(self, stack: Stack, embedder: str, **settings: Any) -> None:
        self.settings = IndexerSettings(
            **dict[str, Any](takeover_s=1, consumer="here", max_image_bytes=100_000) | settings
        )
        url = stack.indexer.environment["REDIS_URL"]
        self.redis: Redis = connect_redis(url, timeout_s=5)
        self.vectors = Vectors(stack.indexer.environment["MILVUS_URI"])
        self.names = Names(self.redis)
        self.channel = connect(embedder, retries=False)
        self.embedder = ImageEmbedder(
            EmbedderClient(self.channel), self.settings.embed_timeout_s, Attempts(self.redis)
        )
        self.sources = Sources([str(stack.folder / "allowed")], self.settings.max_image_bytes)
        self.stream = Stream(self.redis, self.settings.consumer, self.settings.letter_limits)

    async def close(self) -> None:
        await self.channel.close()
        await self.vectors.close()
        await self.redis.aclose()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        pipeline = Pipeline(
            self.sources,
            self.embedder,
            self.names,
            Digests(self.redis),
            self.vectors,
            None,
            self.settings.max_image_bytes,
            self.settings.max_galleries,
        )
        stop = asyncio.Event()
        deletions = GalleryDeletions(self.redis)
        consumer = Consumer(self.stream, pipeline, deletions, self.settings)
        work = asyncio.create_task(consumer.run(stop))
        try:
            yield
        finally:
            stop.set()
            await work

    async def drained(self, timeout_s: float = 60) -> None:
        async with asyncio.timeout(timeout_s):
            while await self.redis.xlen(INGEST_STREAM):
                await asyncio.sleep(0.02)

    async def index(self) -> None:
        async with self.running():
            await self.drained()


async def nearest(indexer: Indexer, gallery: str, data: bytes) -> str | None:
    """The filename of the gallery's image that looks most like this one."""
    (result,) = await indexer.embedder.embed([data])
    assert isinstance(result, Embedding)
    (match,) = await indexer.vectors.search(gallery, result.vector, top_k=1)
    assert match.score > 0.9999
    (name,) = await indexer.names.filenames_of(gallery, [match.id])
    return name
