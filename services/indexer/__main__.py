"""`python -m services.indexer`: the queue -> embedder -> names, images and vectors."""

import asyncio
import contextlib

from services.gallery.digests import Digests
from services.gallery.gallery_deletions import GalleryDeletions
from services.gallery.images import Images
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
from services.runtime.embedder_client import EmbedderClient
from services.runtime.grpc_client import connect
from services.runtime.grpc_server import SMALL_MESSAGE, listen, make_server
from services.runtime.health import Health
from services.runtime.private_port import private_port
from services.runtime.service import CannotStart, run, serving

# The consumer drains by itself; what is left on the server are health checks.
LAST_CHECKS_S = 1


async def main(settings: IndexerSettings, stop: asyncio.Event) -> None:
    try:
        sources = Sources(settings.allowed_roots, settings.max_image_bytes)
        images = Images(settings.images_uri) if settings.images_uri else None
    except (ValueError, ImportError) as error:
        raise CannotStart(f"INDEXER_ALLOWED_ROOTS or IMAGES_URI: {error}") from error
    async with contextlib.AsyncExitStack() as parts:
        redis = connect_redis(
            settings.redis_url,
            settings.redis_timeout_s,
            settings.redis_password.get_secret_value(),
        )
        parts.push_async_callback(redis.aclose)
        vectors = Vectors(
            settings.milvus_uri,
            token=settings.milvus_token.get_secret_value(),
            timeout_s=settings.milvus_timeout_s,
            index=settings.index,
        )
        parts.push_async_callback(vectors.close)
        channel = await parts.enter_async_context(connect(settings.embedder_address, retries=False))
        embedder = EmbedderClient(channel, bulk=True)

        pipeline = Pipeline(
            sources,
            ImageEmbedder(embedder, settings.embed_timeout_s, Attempts(redis)),
            Names(redis),
            Digests(redis),
            vectors,
            images,
            settings.max_image_bytes,
            settings.max_galleries,
        )
        stream = Stream(redis, settings.consumer, settings.letter_limits)
        consumer = Consumer(stream, pipeline, GalleryDeletions(redis), settings)

        health = Health({"redis": stream.ping, "milvus": vectors.ping, "embedder": embedder.ping})
        await parts.enter_async_context(private_port(health, settings.host, settings.metrics_port))
        server = make_server(health, max_message_bytes=int(SMALL_MESSAGE.value))
        listen(server, settings.host, settings.port)
        async with serving(health, server, stop=stop, drain_s=LAST_CHECKS_S):
            await consumer.run(stop)


if __name__ == "__main__":
    run("indexer", IndexerSettings, main)
