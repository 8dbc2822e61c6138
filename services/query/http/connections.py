"""Connections over HTTP: how many, how slow each may be, the answer to what is not HTTP."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.typedefs import Handler
from grpc import StatusCode

from passerby.limits import Limit
from services.query.settings import QuerySettings
from services.runtime.settings import limit_of

log = structlog.get_logger()

CONNECTIONS = limit_of(
    QuerySettings, "max_connections", "connections", "connections", "HTTP 503, then closed"
)
SHARE = limit_of(
    QuerySettings,
    "max_connections_per_client",
    "connections of one client",
    "connections",
    "HTTP 429, then closed",
)
# A filename of 4,096 bytes, each of them percent-encoded, and the rest of the address.
LINE = Limit("address of a request, and each of its headers", 16 * 1024, "bytes", "HTTP 400")
HEADERS = Limit("headers of a request", 64, "headers", "HTTP 400")
HEADER_S = Limit("time for the headers of a request", 10, "seconds", "closed")
# Longer than proxies keep a connection, which would else send a request to one that is closed.
IDLE_S = Limit("time between two requests of a connection", 75, "seconds", "closed")
# What waits to be read is 64 KiB at most.
WRITE_S = Limit("time without reading what was answered", 30, "seconds", "closed")
LIMITS = (CONNECTIONS, SHARE, LINE, HEADERS, HEADER_S, IDLE_S, WRITE_S)


@dataclass(frozen=True)
class Pace:
    """Seconds that a client may take for each thing."""

    header_s: float = HEADER_S.value
    idle_s: float = IDLE_S.value
    write_s: float = WRITE_S.value


class Door:
    """Makes aiohttp's protocol for each connection, and counts them.

    limit, share: connections at the same time, of all and of one client. is_proxy: whether an
    address is that of a trusted proxy, which has no share: it speaks for many clients.
    """

    def __init__(
        self, limit: int, share: int, is_proxy: Callable[[str], bool], pace: Pace | None = None
    ) -> None:
        self.pace = pace or Pace()
        self._limit = CONNECTIONS.at(limit)
        self._share = SHARE.at(share)
        self._is_proxy = is_proxy
        self._open: Counter[str] = Counter()

    def protocol(self, server: web.Server) -> "Connection":
        return Connection(self, server)

    def enter(self, client: str) -> bytes:
        """Counts a connection; what to answer instead if it is one too many, else nothing."""
        refusal = b""
        if self._open.total() >= self._limit.value:
            refusal = _refusal(HTTPStatus.SERVICE_UNAVAILABLE, self._limit)
        elif self._open[client] >= self._share.value and not self._is_proxy(client):
            refusal = _refusal(HTTPStatus.TOO_MANY_REQUESTS, self._share)
        self._open[client] += 1
        return refusal

    def leave(self, client: str) -> None:
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]


def _refusal(status: HTTPStatus, limit: Limit) -> bytes:
    body = _json(StatusCode.RESOURCE_EXHAUSTED, limit.exceeded())
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


class Connection(web.RequestHandler):
    """aiohttp's protocol, which has no time limits for headers and for clients that do not read."""

    __slots__ = ("_client", "_deadline", "_door", "_in_request", "_stalled")

    def __init__(self, door: Door, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=door.pace.idle_s,
            max_line_size=int(LINE.value),
            max_field_size=int(LINE.value),
            max_headers=int(HEADERS.value),
            # Bodies are taken as they come: what unpacks itself has no size that can be checked.
            auto_decompress=False,
        )
        self._door = door
        self._client = ""
        self._in_request = False
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]) if peer else ""
        refusal = self._door.enter(self._client)
        if refusal:
            transport.write(refusal)
            transport.close()
            return
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if hasattr(socket, "TCP_USER_TIMEOUT") and connection.family != socket.AF_UNIX:
            # Also once aiohttp has closed it and waits for the rest to be read.
            milliseconds = int(1000 * self._door.pace.write_s)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        self._expect_headers()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._door.leave(self._client)
        self._headers_came()
        if self._stalled:
            self._stalled.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if data and not self._in_request and self._deadline is None:
            self._expect_headers()
        super().data_received(data)

    def began(self) -> None:
        """A request's headers are complete."""
        self._in_request = True
        self._headers_came()

    async def finish_response(self, *arguments: Any) -> tuple[web.StreamResponse, bool]:
        try:
            return await super().finish_response(*arguments)
        finally:
            self._in_request = False

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self._abort_in(self._door.pace.write_s)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled:
            self._stalled.cancel()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature
    ) -> web.StreamResponse:
        """What the application does not see: bytes that are not HTTP."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun")
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request_failed", exc_info=exc)
        code, text = StatusCode.INVALID_ARGUMENT, "this is not a request of HTTP/1.1"
        if isinstance(exc, LineTooLong):
            text = LINE.exceeded()
        elif "Too many headers" in str(exc):
            text = f"{text}, or: {HEADERS.exceeded()}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            code, text = StatusCode.INTERNAL, "unexpected error; the service's log has the details"
        response = _Nameless(body=_json(code, text), status=status, content_type="application/json")
        response.force_close()
        return response

    def _expect_headers(self) -> None:
        self._deadline = self._abort_in(self._door.pace.header_s)

    def _headers_came(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _abort_in(self, seconds: float) -> asyncio.TimerHandle | None:
        # Not `close`, which waits for the client to read what is left.
        transport = self.transport
        return self._loop.call_later(seconds, transport.abort) if transport else None


class _Nameless(web.Response):
    """aiohttp's hook that takes the header Server out is not called for what is not HTTP."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Server")


@web.middleware
async def headers_came(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tells the connection that it has a whole request."""
    if isinstance(request.protocol, Connection):
        request.protocol.began()
    return await handler(request)


def _json(code: StatusCode, message: str) -> bytes:
    return json.dumps({"code": code.name, "message": message}).encode()
