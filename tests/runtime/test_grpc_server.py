"""What every service's gRPC server does: statuses, health, reflection, one owner of a port."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from services.runtime.errors import Overloaded
from services.runtime.grpc_client import connect
from services.runtime.grpc_server import PortTaken, listen, make_server
from services.runtime.health import Health

NAME = "passerby.v1.Embedder"


class Servicer(embedder_pb2_grpc.EmbedderServicer):
    """Fails in the ways that a service can fail."""

    async def EmbedImages(self, request, context):  # noqa: N802
        raise Overloaded("queue is full" + request.model)

    async def EmbedCaptions(self, request, context):  # noqa: N802
        raise KeyError("secret detail")

    async def GetModel(self, request, context):  # noqa: N802
        return embedder_pb2.Model(name="example")


@pytest.fixture
async def health() -> Health:
    health = Health({"redis": None})
    await health.start()
    return health


@pytest.fixture
async def address(health: Health) -> AsyncIterator[str]:
    server = make_server(health, NAME)
    embedder_pb2_grpc.add_EmbedderServicer_to_server(Servicer(), server)
    port = listen(server, "127.0.0.1", 0)
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def test_a_service_error_becomes_its_status_and_message(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await embedder_pb2_grpc.EmbedderStub(channel).EmbedImages(
                embedder_pb2.EmbedImagesRequest()
            )
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.value.details() == "queue is full"


async def test_a_message_that_no_client_would_take_is_cut_short(address: str) -> None:
    """Clients turn a trailer of more than 8 KiB into another error."""
    long = embedder_pb2.EmbedImagesRequest(model=" 人😀" * 5000)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = embedder_pb2_grpc.EmbedderStub(channel)
        for _ in range(20):  # what is between 8 and 16 KiB is refused at random
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await stub.EmbedImages(long)
            assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert str(error.value.details()).startswith("queue is full 人😀")


async def test_an_unexpected_error_is_internal_and_the_next_call_is_answered(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = embedder_pb2_grpc.EmbedderStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.EmbedCaptions(embedder_pb2.EmbedCaptionsRequest())
        assert (await stub.GetModel(embedder_pb2.GetModelRequest())).name == "example"
    assert error.value.code() == grpc.StatusCode.INTERNAL
    assert "secret detail" not in str(error.value.details())


async def test_reflection_lists_the_services(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([request])
        )
        async for answer in answers:
            names = {service.name for service in answer.list_services_response.service}
            break
    assert {NAME, "grpc.health.v1.Health"} <= names


async def test_health_follows_the_dependencies(address: str, health: Health) -> None:
    async with grpc.aio.insecure_channel(address) as channel:

        async def serving(service: str) -> bool:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service)
            )
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
    await health.report("redis", "refused")
    assert measured() == 0
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


async def test_what_is_away_at_the_start_is_logged_at_once_and_not_at_every_probe(
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


async def test_two_servers_never_share_a_port(address: str, health: Health) -> None:
    with pytest.raises(PortTaken, match=address):
        listen(make_server(health), "127.0.0.1", int(address.rpartition(":")[2]))


class Named(Servicer):
    """Says which replica answers."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def GetModel(self, request, context):  # noqa: N802
        return embedder_pb2.Model(name=self.name)


async def test_calls_pass_over_a_replica_that_is_not_ready_or_drains() -> None:
    replicas = {}
    for name in ("ready", "loading"):
        health = Health({"models": None})
        await health.start()
        server = make_server(health)
        embedder_pb2_grpc.add_EmbedderServicer_to_server(Named(name), server)
        replicas[name] = health, server, listen(server, "127.0.0.1", 0)
        await server.start()
    await replicas["ready"][0].report("models", "")
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for _, _, port in replicas.values())
    async with connect(target) as channel, asyncio.timeout(30):
        stub = embedder_pb2_grpc.EmbedderStub(channel)

        async def answering() -> set[str]:
            request = embedder_pb2.GetModelRequest()
            return {(await stub.GetModel(request, wait_for_ready=True)).name for _ in range(6)}

        assert await answering() == {"ready"}
        await replicas["loading"][0].report("models", "")
        while await answering() != {"ready", "loading"}:
            await asyncio.sleep(0.01)
        await replicas["ready"][0].drain()
        while await answering() != {"loading"}:
            await asyncio.sleep(0.01)
    for _, server, _ in replicas.values():
        await server.stop(None)
