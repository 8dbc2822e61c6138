"""The port for the kubelet and for monitoring: liveness, readiness with its reasons, metrics.

What it says is for those who run the service: names of hosts, versions, how much is searched.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterable
from http import HTTPStatus
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from services.runtime.health import Health

_ANSWER_S = 5


@contextlib.asynccontextmanager
async def private_port(health: Health, host: str, port: int) -> AsyncIterator[None]:
    """Serves /healthz, /readyz and /metrics beside the body; port 0: nothing. Raises OSError."""
    if not port:
        yield
        return
    pages = _Pages(health, asyncio.get_running_loop())
    # A thread, so that a busy service is measured as well.
    with make_server(host, port, pages, ThreadingWSGIServer, _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            await asyncio.to_thread(server.shutdown)


class _Handler(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass


class _Pages:
    def __init__(self, health: Health, loop: asyncio.AbstractEventLoop) -> None:
        self._health = health
        self._loop = loop
        self._metrics: WSGIApplication = make_wsgi_app()

    def __call__(self, request: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        match request["PATH_INFO"]:
            case "/metrics":
                return self._metrics(request, start)
            case "/healthz":
                status = HTTPStatus.OK if self._answers() else HTTPStatus.SERVICE_UNAVAILABLE
                return _json(start, status, {"live": status == HTTPStatus.OK})
            case "/readyz":
                ready = self._health.ready and self._answers()
                problems = {name: why for name, why in self._health.problems.items() if why}
                status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
                return _json(start, status, {"ready": ready, "problems": problems})
            case path:
                there = "there are /healthz, /readyz and /metrics"
                return _json(
                    start, HTTPStatus.NOT_FOUND, {"message": f"nothing at {path}: {there}"}
                )

    def _answers(self) -> bool:
        """Whether the service itself can answer, and not this thread alone."""
        answered = threading.Event()
        self._loop.call_soon_threadsafe(answered.set)
        return answered.wait(_ANSWER_S)


def _json(start: StartResponse, status: HTTPStatus, value: object) -> Iterable[bytes]:
    start(f"{status.value} {status.phrase}", [("Content-Type", "application/json")])
    return [json.dumps(value).encode()]
