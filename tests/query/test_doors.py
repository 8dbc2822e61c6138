"""Before every call: clients that call too much are told so, over gRPC and HTTP, the others not."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web

from passerby.v1 import search_pb2, search_pb2_grpc
from services.query.doors import Doors
from services.query.grpc_servicer import NAME
from services.query.http.connections import Door
from services.query.http.guards import guards
from services.query.http.hosts import AllowedHosts
from services.query.http.server import HttpServer
from services.query.settings import QuerySettings
from services.runtime.grpc_server import listen, make_server
from services.runtime.health import Health

# One call, and a burst of none.
SELDOM = QuerySettings(calls_per_s=0.01, trusted_proxies=("127.0.0.1/32",))


class Servicer:
    def __getattr__(self, _call: str) -> None:
        return None

    async def ListGalleries(  # noqa: N802 - the contract's name
        self, request: search_pb2.ListGalleriesRequest, context: Any
    ) -> search_pb2.ListGalleriesResponse:
        return search_pb2.ListGalleriesResponse()


async def test_a_client_of_grpc_is_told_when_to_come_back() -> None:
    server = make_server(Health({}), NAME, admit=Doors(SELDOM).grpc_call)
    # Only one of its calls is made.
    servicer: Any = Servicer()
    search_pb2_grpc.add_SearchServicer_to_server(servicer, server)
    port = listen(server, "127.0.0.1", 0)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = search_pb2_grpc.SearchStub(channel)
        request = search_pb2.ListGalleriesRequest()
        await stub.ListGalleries(request)
        with pytest.raises(grpc.aio.AioRpcError, match="set by QUERY_CALLS_PER_S") as error:
            await stub.ListGalleries(request)
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        pushback = dict(error.value.trailing_metadata())["grpc-retry-pushback-ms"]
        assert 90_000 < int(pushback) <= 100_000
        # Another one, behind a proxy that is trusted.
        await stub.ListGalleries(request, metadata=(("x-forwarded-for", "192.0.2.1"),))
    await server.stop(None)


@pytest.fixture
async def address() -> AsyncIterator[str]:
    doors = Doors(SELDOM)

    async def answer(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(middlewares=guards(doors, AllowedHosts()))
    app.add_routes([web.get(path, answer) for path in ("/", "/v1/galleries", "/v1/images/a/b")])
    server = HttpServer(app, "127.0.0.1", 0, 1, Door(10, 10, doors.clients.is_proxy))
    await server.start()
    yield f"http://127.0.0.1:{server.port}"
    await server.stop(None)


async def test_a_client_of_http_is_told_when_to_come_back(address: str) -> None:
    async with aiohttp.ClientSession(address) as client:

        async def status(path: str, **headers: str) -> int:
            async with client.get(path, headers=headers) as answer:
                return answer.status

        assert await status("/v1/galleries") == 200
        async with client.get("/v1/galleries") as answer:
            assert answer.status == 429
            assert 90 < int(answer.headers["Retry-After"]) <= 100
            assert "set by QUERY_CALLS_PER_S" in (await answer.json())["message"]
        forwarded = {"X-Forwarded-For": "198.51.100.7, 192.0.2.1"}
        assert await status("/v1/galleries", **forwarded) == 200
        # Who says to be yet another one is not believed: the proxy saw 192.0.2.1.
        forwarded = {"X-Forwarded-For": "198.51.100.8, 192.0.2.1"}
        assert await status("/v1/galleries", **forwarded) == 429
        # A page shows many images.
        for path in ("/", "/v1/images/a/b"):
            assert [await status(path) for _ in range(3)] == [200] * 3


def test_a_network_that_is_none_stops_the_start() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        QuerySettings(trusted_proxies=("ingress",))
