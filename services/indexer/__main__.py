"""`python -m services.indexer`: the queue -> embedder -> names, images and vectors."""

import asyncio

from services.gallery.images import Images
from services.gallery.names import Names
from services.gallery.redis_connection import connect as connect_redis
from services.gallery.vectors import Vectors
from services.indexer.consumer import Consumer
from services.indexer.embedding import ImageEmbedder
from services.indexer.pipeline import Pipeline
from services.indexer.settings import IndexerSettings
from services.indexer.sources import Sources
from services.indexer.stream import Stream
from services.runtime.embedder_client import EmbedderClient
from services.runtime.grpc_client import connect
from services.runtime.grpc_server import listen, make_server
from services.runtime.health import Health
from services.runtime.process import CannotStart, run


async def main(settings: IndexerSettings, stop: asyncio.Event) -> None:
    try:
        sources = Sources(settings.allowed_roots, settings.max_image_bytes)
        images = Images(settings.images_uri) if settings.images_uri else None
    except (ValueError, ImportError) as error:
        raise CannotStart(f"INDEXER_ALLOWED_ROOTS or IMAGES_URI: {error}") from error
    redis = connect_redis(settings.redis_url, settings.redis_timeout_s)
    vectors = Vectors(
        settings.milvus_uri,
        token=settings.milvus_token.get_secret_value(),
        timeout_s=settings.milvus_timeout_s,
        index=settings.milvus_index,
        index_params=settings.milvus_index_params,
        search_params=settings.milvus_search_params,
    )
    channel = connect(settings.embedder_address)
    embedder = EmbedderClient(channel)
    pipeline = Pipeline(
        sources,
        ImageEmbedder(embedder, settings.embed_timeout_s),
        Names(redis),
        vectors,
        images,
        settings.max_image_bytes,
    )
    stream = Stream(redis, settings.consumer)
    consumer = Consumer(stream, pipeline, settings)

    health = Health(["redis", "milvus", "embedder"])
    await health.start()
    server = make_server(health)
    listen(server, settings.host, settings.port)
    await server.start()
    probes = {"redis": stream.ping, "milvus": vectors.ping, "embedder": embedder.ping}
    watches = [asyncio.create_task(health.watch(name, probe)) for name, probe in probes.items()]
    working = asyncio.create_task(consumer.run(stop))
    try:
        await asyncio.wait(
            {working, asyncio.create_task(stop.wait())}, return_when="FIRST_COMPLETED"
        )
        await health.drain()
        await working
    finally:
        for watch in watches:
            watch.cancel()
        await server.stop(1)
        await channel.close()
        await vectors.close()
        await redis.aclose()


if __name__ == "__main__":
    run("indexer", IndexerSettings, main)
