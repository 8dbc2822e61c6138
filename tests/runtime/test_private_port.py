"""The private port: what is wrong, and whether the service itself still answers."""

import asyncio
import json
import threading
import urllib.error
import urllib.request

import pytest

from services.runtime import private_port as module
from services.runtime.health import Health
from services.runtime.private_port import private_port
from tests.support.processes import free_port


def ask(port: int, path: str) -> tuple[int, object]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


async def test_readiness_says_what_is_missing() -> None:
    health, port = Health({"redis": None}), free_port()
    async with private_port(health, "127.0.0.1", port):
        await health.report("redis", "Redis at 10.0.0.7 cannot be reached")
        problems = {"redis": "Redis at 10.0.0.7 cannot be reached"}
        answer = await asyncio.to_thread(ask, port, "/readyz")
        assert answer == (503, {"ready": False, "problems": problems})
        assert await asyncio.to_thread(ask, port, "/healthz") == (200, {"live": True})
        await health.report("redis", "")
        assert (await asyncio.to_thread(ask, port, "/readyz"))[0] == 200
        await health.drain()
        assert (await asyncio.to_thread(ask, port, "/readyz"))[0] == 503
        assert (await asyncio.to_thread(ask, port, "/v1/search"))[0] == 404


async def test_a_service_that_hangs_is_not_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ANSWER_S", 0.2)
    port = free_port()
    async with private_port(Health({}), "127.0.0.1", port):
        answers: list[tuple[int, object]] = []
        asking = threading.Thread(target=lambda: answers.append(ask(port, "/healthz")))
        asking.start()
        asking.join()  # which is what hangs
        assert answers == [(503, {"live": False})]
