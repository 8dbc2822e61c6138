"""Connections over HTTP: the slow ones are closed, those that are too many answered at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from services.query.doors import Doors
from services.query.http.connections import HEADERS, LINE, Door, Pace
from services.query.http.guards import guards, set_headers
from services.query.http.hosts import AllowedHosts
from services.query.http.server import HttpServer
from services.query.settings import QuerySettings

QUICK = Pace(header_s=0.2, idle_s=0.2, write_s=0.2)
PATIENT = Pace(header_s=30, idle_s=30, write_s=30)
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
TOO_LONG = int(LINE.value) + 1
LARGE = 32 * 1024 * 1024


@asynccontextmanager
async def served(
    pace: Pace = PATIENT, limit: int = 10, share: int = 10, proxy: str = ""
) -> AsyncIterator[int]:
    """The port of a server with one answer at `/` and a large one at `/large`."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="answer")

    async def large(_request: web.Request) -> web.Response:
        return web.Response(body=b"x" * LARGE)

    app = web.Application(middlewares=guards(Doors(QuerySettings()), AllowedHosts()))
    app.on_response_prepare.append(set_headers)
    app.add_routes([web.get("/", answer), web.get("/large", large)])
    door = Door(limit, share, lambda address: address == proxy, pace)
    server = HttpServer(app, "127.0.0.1", 0, 1, door)
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop(None)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(port: int) -> Streams:
    return await asyncio.open_connection("127.0.0.1", port)


async def rest(streams: Streams) -> bytes:
    """All that is answered until the server closes."""
    reader, writer = streams
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    for i in range(len(data)):
        writer.write(data[i : i + 1])
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "begin",
    [b"", b"GET / HT", REQUEST[:-2]],
    ids=["silence", "half a request line", "half of the headers"],
)
async def test_a_client_that_falls_silent_is_closed(begin: bytes) -> None:
    async with served(Pace(header_s=0.2)) as port:
        client = await connect(port)
        client[1].write(begin)
        assert await rest(client) == b""


async def test_a_client_that_sends_its_headers_byte_by_byte_is_closed() -> None:
    async with served(Pace(header_s=0.3)) as port:
        client = await connect(port)
        client[1].write(REQUEST[:-2])
        dripping = asyncio.create_task(drip(client[1], b"X-Slow: " + b"x" * 1000))
        assert await rest(client) == b""
        dripping.cancel()
        # The second request of a connection has the same time.
        client = await connect(port)
        client[1].write(REQUEST)
        await client[0].readuntil(b"answer")
        client[1].write(REQUEST[:-2])
        assert await rest(client) == b""


async def test_an_idle_connection_is_closed_and_one_in_use_is_not() -> None:
    async with served(Pace(idle_s=0.3)) as port:
        client = await connect(port)
        for _ in range(8):
            client[1].write(REQUEST)
            await client[0].readuntil(b"answer")
            await asyncio.sleep(0.1)
        assert await rest(client) == b""


async def test_a_client_that_does_not_read_is_closed() -> None:
    async with served(QUICK) as port:
        reader, writer = await connect(port)
        writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.6)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(LARGE)
        writer.close()


async def test_a_client_that_reads_slowly_but_steadily_gets_all() -> None:
    async with served(Pace(write_s=2)) as port:
        reader, writer = await connect(port)
        writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(16):
            await reader.readexactly(LARGE // 16)
            await asyncio.sleep(0.03)
        writer.close()


async def test_connections_have_a_limit_and_those_beyond_it_are_told() -> None:
    async with served(limit=2) as port:
        first, second, third = [await connect(port) for _ in range(3)]
        answer = await rest(third)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in answer
        assert (
            b"connections: more than the limit of 2 connections (set by QUERY_MAX_CONNECTIONS)"
            in answer
        )
        first[1].write(REQUEST)
        assert await first[0].readuntil(b"answer")
        second[1].close()
        await second[1].wait_closed()
        await asyncio.sleep(0.05)
        fourth = await connect(port)
        fourth[1].write(REQUEST)
        assert await fourth[0].readuntil(b"answer")
        first[1].close()
        fourth[1].close()


async def test_one_client_cannot_take_all_connections() -> None:
    async with served(share=1) as port:
        first, second = await connect(port), await connect(port)
        answer = await rest(second)
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"set by QUERY_MAX_CONNECTIONS_PER_CLIENT" in answer
        first[1].close()


async def test_a_trusted_proxy_may_have_all_connections() -> None:
    async with served(share=1, proxy="127.0.0.1") as port:
        for client in [await connect(port) for _ in range(2)]:
            client[1].write(REQUEST)
            assert await client[0].readuntil(b"answer")
            client[1].close()


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (b"\x16\x03\x01 hello\r\n\r\n", b"not a request of HTTP/1.1"),
        (b"GET / HTTP/9.x\r\n\r\n", b"not a request of HTTP/1.1"),
        (b"GET /" + b"x" * TOO_LONG + b" HTTP/1.1\r\n\r\n", b"the limit of 16,384"),
        (REQUEST[:-2] + b"A: b\r\n" * int(HEADERS.value) + b"\r\n", b"the limit of 64"),
        (REQUEST[:-2] + b"A: " + b"x" * TOO_LONG + b"\r\n\r\n", b"the limit of 16,384"),
    ],
    ids=["tls", "version", "address", "headers", "header"],
)
async def test_what_is_not_http_is_told_so(request_: bytes, says: bytes) -> None:
    async with served() as port:
        client = await connect(port)
        client[1].write(request_)
        answer = await rest(client)
        assert answer.startswith(b"HTTP/1.")
        assert b" 400 " in answer
        assert b"INVALID_ARGUMENT" in answer
        assert says in answer
        assert b"Server" not in answer


async def test_headers_up_to_the_limits_are_taken() -> None:
    async with served() as port:
        client = await connect(port)
        many = b"A: b\r\n" * (int(HEADERS.value) - 1)
        client[1].write(REQUEST[:-2] + many + b"\r\n")
        assert await client[0].readuntil(b"answer")
        client[1].write(REQUEST[:-2] + b"A: " + b"x" * int(LINE.value) + b"\r\n\r\n")
        assert await client[0].readuntil(b"answer")
        client[1].close()
