"""Listens for HTTP: the application on a port, from its start until its last answer."""

import asyncio
from functools import partial

import structlog
from aiohttp import web

from services.query.http.connections import Door

log = structlog.get_logger()


class HttpServer:
    """drain_s: seconds that requests in hand have when it is stopped."""

    def __init__(
        self, app: web.Application, host: str, port: int, drain_s: float, door: Door
    ) -> None:
        self._address = host, port
        self._door = door
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=drain_s)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Raises OSError if the port is taken."""
        await self._runner.setup()
        assert self._runner.server is not None
        connect = partial(self._door.protocol, self._runner.server)
        self._server = await asyncio.get_running_loop().create_server(connect, *self._address)
        log.info("listening", http=f"http://{self._address[0]}:{self.port}")

    @property
    def port(self) -> int:
        """The one that the system chose, for 0."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self, _grace: float | None) -> None:
        """Requests in hand have drain_s, whatever is asked: aiohttp fixes it when it starts."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()
