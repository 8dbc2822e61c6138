"""Liveness and readiness over HTTP for whoever asks: the reasons are on the private port."""

from http import HTTPStatus

from aiohttp import web

from services.runtime.health import Health


class Probes:
    def __init__(self, health: Health) -> None:
        self._health = health
        self.routes = [web.get("/healthz", _live), web.get("/readyz", self._ready)]

    async def _ready(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's signature
        status = HTTPStatus.OK if self._health.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return web.json_response({"ready": self._health.ready}, status=status)


async def _live(request: web.Request) -> web.Response:  # noqa: ARG001 - aiohttp's signature
    return web.json_response({"live": True})
