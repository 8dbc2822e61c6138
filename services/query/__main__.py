"""`python -m services.query`: caption or image -> embedder -> ids -> names, over gRPC and HTTP."""

import asyncio
import contextlib

from passerby.v1 import search_pb2_grpc
from services.gallery.digests import Digests
from services.gallery.gallery_deletions import GalleryDeletions
from services.gallery.images import Images
from services.gallery.names import Names
from services.gallery.redis_connection import connect as connect_redis
from services.gallery.vectors import Vectors
from services.query.doors import SPARE_CALLS, Doors
from services.query.grpc_servicer import NAME, Servicer
from services.query.held import IMAGE, Held
from services.query.http.app import make_app
from services.query.http.connections import Door
from services.query.http.server import HttpServer
from services.query.searchable import Searchable
from services.query.settings import QuerySettings
from services.query.stores import Stores
from services.runtime.embedder_client import EmbedderClient
from services.runtime.grpc_client import connect
from services.runtime.grpc_server import listen, make_server
from services.runtime.health import Health
from services.runtime.private_port import private_port
from services.runtime.service import run, serving

# gRPC cancels calls that have arrived but were not taken up yet when its server stops. For this
# long they are still taken up, while whoever watches the health turns to other replicas.
LEAVING_S = 0.5


async def main(settings: QuerySettings, stop: asyncio.Event) -> None:
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
        channel = await parts.enter_async_context(connect(settings.embedder_address))
        embedder = EmbedderClient(channel)

        images = Images(settings.images_uri) if settings.images_uri else None
        stores = Stores(
            vectors, Names(redis), Digests(redis), GalleryDeletions(redis), images, redis
        )

        health = Health(
            {"redis": redis.ping, "milvus": Searchable(vectors), "embedder": embedder.ping}
        )
        await parts.enter_async_context(private_port(health, settings.host, settings.metrics_port))
        doors = Doors(settings)
        server = make_server(
            health,
            NAME,
            # Besides the image: names, of which there may be many to ask for or to delete.
            max_message_bytes=settings.max_image_bytes + 1024 * 1024,
            max_calls=settings.max_calls + SPARE_CALLS,
            admit=doors.grpc_call,
        )
        held = Held(IMAGE.at(settings.max_image_bytes))
        servicer = Servicer(stores, embedder, settings.timeout_s, held)
        search_pb2_grpc.add_SearchServicer_to_server(servicer, server)
        listen(server, settings.host, settings.port)
        app = make_app(stores, embedder, health, held, doors, settings)
        door = Door(
            settings.max_connections, settings.max_connections_per_client, doors.clients.is_proxy
        )
        http = HttpServer(app, settings.host, settings.http_port, settings.drain_s, door)
        async with serving(
            health, http, server, stop=stop, drain_s=settings.drain_s, leaving_s=LEAVING_S
        ):
            await stop.wait()


if __name__ == "__main__":
    run("query", QuerySettings, main)
