"""Bodies of requests: at their limits and one beyond, packed, promised and never sent."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from services.query.doors import Doors
from services.query.held import IMAGE, IMAGES, Held
from services.query.http.bodies import JSON, Bodies
from services.query.http.connections import Door
from services.query.http.guards import guards, set_headers
from services.query.http.hosts import AllowedHosts
from services.query.http.server import HttpServer
from services.query.settings import QuerySettings
from tests.support.query import QueryService, people

JPEG = {"Content-Type": "image/jpeg"}


def search_of(size: int, **fields: Any) -> bytes:
    """A request of so many bytes."""
    body = json.dumps({"caption": "a man", **fields}).encode()
    return body + b" " * (size - len(body))


def test_a_body_in_json_has_its_limit(service: QueryService, gallery: str) -> None:
    service.fill(gallery, people(1))
    limit = int(JSON.value)
    assert service.post("/v1/search", search_of(limit, gallery=gallery))[0] == 200
    status, answer = service.post("/v1/search", search_of(limit + 1, gallery=gallery))
    assert (status, answer["code"]) == (413, "INVALID_ARGUMENT")
    assert "65,537 bytes are more than the limit of 65,536 (fixed)" in answer["message"]
    assert "the body itself" in answer["message"]


def test_an_image_has_its_limit(service: QueryService, gallery: str) -> None:
    service.fill(gallery, people(1))
    address, limit = f"/v1/search?gallery={gallery}", int(IMAGE.value)
    status, answer = service.post(address, b"\0" * limit, **JPEG)
    assert (status, answer["message"][:19]) == (400, "image: not an image")
    status, answer = service.post(address, b"\0" * (limit + 1), **JPEG)
    assert (status, answer["code"]) == (413, "INVALID_ARGUMENT")
    assert "8,388,609 bytes are more than the limit of 8,388,608" in answer["message"]
    assert "set by QUERY_MAX_IMAGE_BYTES" in answer["message"]


def exchange(service: QueryService, request: bytes) -> bytes:
    """What is answered to these bytes until the server closes."""
    host, port = service.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(request)
        answer = b""
        while part := client.recv(65_536):
            answer += part
            if b"}" in answer:
                break
        return answer


HEAD = b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\n"


def test_what_is_promised_to_be_too_large_is_not_waited_for(service: QueryService) -> None:
    answer = exchange(service, HEAD + b"Content-Length: 99999999\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_body_without_a_size_is_read_up_to_the_limit(service: QueryService) -> None:
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    answer = exchange(service, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + 3 * chunk)
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip"])
def test_a_packed_body_is_rejected_as_it_is(service: QueryService, encoding: str) -> None:
    status, answer = service.post("/v1/search", b"\x1f\x8b", **{"Content-Encoding": encoding})
    assert (status, answer["code"]) == (415, "INVALID_ARGUMENT")
    assert "send the body as it is" in answer["message"]


@asynccontextmanager
async def bodies_served(bodies: Bodies) -> AsyncIterator[str]:
    """The address of a server that reads the images it gets."""

    async def read(request: web.Request) -> web.Response:
        async with bodies.image(request) as image:
            return web.Response(text=str(len(image)))

    app = web.Application(middlewares=guards(Doors(QuerySettings()), AllowedHosts()))
    app.on_response_prepare.append(set_headers)
    app.router.add_post("/", read)
    server = HttpServer(app, "127.0.0.1", 0, 1, Door(10, 10, lambda _: False))
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}/"
    finally:
        await server.stop(None)


async def parts(*bodies: bytes, end: asyncio.Event) -> AsyncIterator[bytes]:
    for body in bodies:
        yield body
    await end.wait()


async def test_a_body_has_its_time() -> None:
    bodies = Bodies(Held(), body_s=0.2)
    end = asyncio.Event()
    async with bodies_served(bodies) as address, aiohttp.ClientSession() as client:
        async with client.post(address, data=parts(b"half", end=end)) as answer:
            assert answer.status == HTTPStatus.REQUEST_TIMEOUT
            assert "more than the limit of 0.2 seconds (fixed)" in await answer.text()
            assert answer.headers["Connection"] == "close"
        end.set()


async def test_images_in_hand_have_a_limit_together() -> None:
    """Only what has come counts, until its request is answered."""
    held = Held(IMAGE.at(80), IMAGES.at(100))
    end = asyncio.Event()
    async with (
        bodies_served(Bodies(held)) as address,
        aiohttp.ClientSession() as client,
        asyncio.TaskGroup() as group,
    ):

        async def slow() -> None:
            async with client.post(address, data=parts(b"x" * 60, end=end)) as answer:
                assert await answer.text() == "60"

        group.create_task(slow())
        while not held.bytes:
            await asyncio.sleep(0)
        async with client.post(address, data=b"x" * 40) as answer:
            assert await answer.text() == "40"
        async with client.post(address, data=b"x" * 41) as answer:
            assert answer.status == HTTPStatus.TOO_MANY_REQUESTS
            assert "the limit of 100" in await answer.text()
        end.set()
    assert held.bytes == 0
