"""Health follows what a service needs: over gRPC, as a measurement and in the log."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from services.runtime.grpc_server import listen, make_server
from services.runtime.health import Health


@pytest.fixture
async def health() -> Health:
    health = Health({"redis": None})
    await health.start()
    return health


@pytest.fixture
async def address(health: Health) -> AsyncIterator[str]:
    server = make_server(health)
    port = listen(server, "127.0.0.1", 0)
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def test_health_over_grpc_follows_the_dependencies_and_the_draining(
    address: str, health: Health
) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        # The stub's types leave its methods out, as they differ for asynchronous channels.
        stub: Any = health_pb2_grpc.HealthStub(channel)

        async def serving(service: str) -> bool:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

        assert (await serving("live"), await serving("redis"), await serving("")) == (
            True,
            False,
            False,
        )
        await health.report("redis", "")
        assert (await serving("redis"), await serving("")) == (True, True)
        await health.drain()
        assert (await serving("live"), await serving("")) == (True, False)


async def test_readiness_is_measured(health: Health) -> None:
    def measured() -> float | None:
        return REGISTRY.get_sample_value("passerby_ready")

    assert measured() == 0
    await health.report("redis", "")
    assert measured() == 1
    assert REGISTRY.get_sample_value("passerby_dependency_up", {"dependency": "redis"}) == 1
    await health.report("redis", "refused")
    assert measured() == 0
    assert REGISTRY.get_sample_value("passerby_dependency_up", {"dependency": "redis"}) == 0
    await health.report("redis", "")
    await health.drain()
    assert measured() == 0


async def test_a_watch_reports_loss_and_return(health: Health) -> None:
    problem: Exception | None = ConnectionError("refused")

    async def probe() -> None:
        if problem:
            raise problem

    watch = asyncio.create_task(health.watch("redis", probe, interval_s=0.01))
    async with asyncio.timeout(5):
        while health.problems["redis"] != "redis: refused":
            await asyncio.sleep(0.01)
        problem = None
        while not health.ready:
            await asyncio.sleep(0.01)
    watch.cancel()


async def test_a_probe_that_hangs_is_a_problem_that_names_the_time(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.runtime.health.PROBE_TIMEOUT_S", 0.05)
    watch = asyncio.create_task(health.watch("redis", asyncio.Event().wait))
    async with asyncio.timeout(5):
        while health.problems["redis"] != "redis did not answer within 0.05 s":
            await asyncio.sleep(0.01)
    watch.cancel()


async def test_a_dependency_that_is_away_is_logged_at_once_and_not_at_every_probe(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def probe() -> None:
        probes.append(None)
        raise ConnectionError("refused")

    async def logged_while_probed(times: int) -> list[str]:
        probes.clear()
        with capture_logs() as logs:
            watch = asyncio.create_task(health.watch("redis", probe, interval_s=0.001))
            async with asyncio.timeout(5):
                while len(probes) < times:
                    await asyncio.sleep(0.001)
            watch.cancel()
        return [log["event"] for log in logs]

    probes: list[None] = []
    assert await logged_while_probed(20) == ["still_waiting"]
    await health.report("redis", "")
    assert await logged_while_probed(20) == ["dependency_lost"]
    monkeypatch.setattr("services.runtime.health.REMIND_S", 0)
    assert len(await logged_while_probed(20)) > 10
