"""What every service's gRPC server does: statuses, reflection, one owner of a port."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any, NoReturn, cast

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY

from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from services.runtime.errors import Overloaded
from services.runtime.grpc_server import PortTaken, listen, make_server
from services.runtime.health import Health
from tests.support.embedder_servicer import EmptyEmbedder

NAME = "passerby.v1.Embedder"


class Servicer(EmptyEmbedder):
    """Fails in the ways that a service can fail."""

    async def EmbedImages(  # noqa: N802 - the contract's name
        self, request: embedder_pb2.EmbedImagesRequest, context: Any
    ) -> NoReturn:
        raise Overloaded("queue is full" + request.model)

    async def EmbedCaptions(  # noqa: N802 - the contract's name
        self, request: embedder_pb2.EmbedCaptionsRequest, context: Any
    ) -> NoReturn:
        raise KeyError("secret detail")

    async def GetModel(  # noqa: N802 - the contract's name
        self, request: embedder_pb2.GetModelRequest, context: Any
    ) -> embedder_pb2.Model:
        if request.model == "slow":
            await asyncio.Event().wait()
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


async def test_a_call_whose_caller_leaves_is_not_counted_as_answered(address: str) -> None:
    def counted(code: str) -> float:
        labels = {"method": "GetModel", "code": code}
        return REGISTRY.get_sample_value("passerby_rpc_seconds_count", labels) or 0

    slow = embedder_pb2.GetModelRequest(model="slow")
    before = counted("OK"), counted("CANCELLED")
    async with grpc.aio.insecure_channel(address) as channel:
        call = embedder_pb2_grpc.EmbedderStub(channel).GetModel(slow, timeout=0.1)
        with pytest.raises(grpc.aio.AioRpcError, match="Deadline"):
            await call
    async with asyncio.timeout(10):
        while counted("CANCELLED") == before[1]:
            await asyncio.sleep(0.01)
    assert (counted("OK"), counted("CANCELLED")) == (before[0], before[1] + 1)


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
        # Its stub is typed for synchronous channels alone.
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast(Any, channel))
        answers = stub.ServerReflectionInfo(iter([request]))
        async for answer in answers:
            names = {service.name for service in answer.list_services_response.service}
            break
    assert {NAME, "grpc.health.v1.Health"} <= names


async def test_a_client_that_pings_often_is_not_cut_off(address: str) -> None:
    """As ours do to notice a silent server; gRPC's servers by default allow two pings."""

    def frame(kind: int, flags: int, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags, 0, 0, 0, 0]) + payload

    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(10):
        with contextlib.closing(writer):
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, b""))
            for number in range(6):
                ping = struct.pack(">Q", number)
                writer.write(frame(6, 0, ping))
                await reader.readuntil(frame(6, 1, ping))
        await writer.wait_closed()


async def test_two_servers_never_share_a_port(address: str, health: Health) -> None:
    with pytest.raises(PortTaken, match=address):
        listen(make_server(health), "127.0.0.1", int(address.rpartition(":")[2]))
