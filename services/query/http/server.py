"""Listens for HTTP: the application on a port, from its start until its last answer."""

import structlog
from aiohttp import web

from services.query.http.guards import LINE

log = structlog.get_logger()


class HttpServer:
    """drain_s: seconds that requests in hand have when it is stopped."""

    def __init__(self, app: web.Application, host: str, port: int, drain_s: float) -> None:
        self._address = host, port
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            max_line_size=int(LINE.value),
            shutdown_timeout=drain_s,
        )

    async def start(self) -> None:
        """Raises OSError if the port is taken."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, *self._address)
        await site.start()
        log.info("listening", http=site.name)

    async def stop(self, _grace: float | None) -> None:
        """Requests in hand have drain_s, whatever is asked: aiohttp fixes it when it starts."""
        await self._runner.cleanup()
