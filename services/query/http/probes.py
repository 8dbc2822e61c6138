"""Liveness, readiness and Prometheus metrics over HTTP, for Kubernetes and monitoring."""

from http import HTTPStatus

from aiohttp import web
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from services.runtime.health import Health


class Probes:
    def __init__(self, health: Health) -> None:
        self._health = health
        self.routes = [
            web.get("/healthz", _live),
            web.get("/readyz", self._ready),
            web.get("/metrics", _metrics),
        ]

    async def _ready(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's signature
        problems = {name: problem for name, problem in self._health.problems.items() if problem}
        status = HTTPStatus.OK if self._health.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return web.json_response({"ready": self._health.ready, "problems": problems}, status=status)


async def _live(request: web.Request) -> web.Response:  # noqa: ARG001 - aiohttp's signature
    return web.json_response({"live": True})


async def _metrics(request: web.Request) -> web.Response:
    """In OpenMetrics for those who accept it: only that form has exemplars."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})
