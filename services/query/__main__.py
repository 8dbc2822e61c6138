"""`python -m services.query`: wires the stores, the embedder, both servers and the health."""

import asyncio

import structlog
from aiohttp import web

from passerby.v1 import search_pb2_grpc
from services.gallery.images import Images
from services.gallery.names import Names
from services.gallery.redis_connection import connect as connect_redis
from services.gallery.vectors import Vectors
from services.query.grpc_servicer import NAME, Servicer
from services.query.http.app import make_app
from services.query.http.guards import MAX_LINE_BYTES
from services.query.settings import QuerySettings
from services.query.stores import Stores
from services.runtime import process
from services.runtime.embedder_client import EmbedderClient
from services.runtime.grpc_client import connect
from services.runtime.grpc_server import listen, make_server
from services.runtime.health import Health

log = structlog.get_logger()

# gRPC cancels calls that have arrived but were not taken up yet when its server stops. For this
# long they are still taken up, while whoever watches the health turns to other replicas.
LEAVING_S = 0.5


async def main(settings: QuerySettings, stop: asyncio.Event) -> None:
    redis = connect_redis(settings.redis_url, settings.redis_timeout_s)
    vectors = Vectors(
        settings.milvus_uri,
        token=settings.milvus_token.get_secret_value(),
        timeout_s=settings.milvus_timeout_s,
        search_params=settings.milvus_search_params,
    )
    stores = Stores(
        vectors=vectors,
        names=Names(redis),
        images=Images(settings.images_uri) if settings.images_uri else None,
        redis=redis,
    )
    channel = connect(settings.embedder_address)
    embedder = EmbedderClient(channel)
    health = Health(["embedder", "milvus", "redis"])
    await health.start()

    server = make_server(health, NAME)
    servicer = Servicer(stores, embedder, settings.timeout_s)
    search_pb2_grpc.add_SearchServicer_to_server(servicer, server)
    port = listen(server, settings.host, settings.port)
    http = web.AppRunner(
        make_app(stores, embedder, health, settings.timeout_s, settings.host),
        access_log=None,
        handler_cancellation=True,
        max_line_size=MAX_LINE_BYTES,
        shutdown_timeout=settings.drain_s,
    )
    await http.setup()
    site = web.TCPSite(http, settings.host, settings.http_port)
    await site.start()
    await server.start()
    probes = [
        asyncio.create_task(health.watch("embedder", embedder.ping)),
        asyncio.create_task(health.watch("milvus", vectors.ping)),
        asyncio.create_task(health.watch("redis", redis.ping)),
    ]
    log.info("listening", grpc=f"{settings.host}:{port}", http=site.name)

    await stop.wait()
    await health.drain()
    await asyncio.sleep(LEAVING_S)
    await asyncio.gather(server.stop(settings.drain_s), http.cleanup())
    for probe in probes:
        probe.cancel()
    await asyncio.gather(*probes, return_exceptions=True)
    await channel.close()
    await vectors.close()
    await redis.aclose()


if __name__ == "__main__":
    process.run("query", QuerySettings, main)
