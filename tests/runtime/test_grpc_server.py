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


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, payload: bytes) -> bytes:
    """Of HTTP/2, for the connection itself."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags, 0, 0, 0, 0]) + payload


async def test_a_client_that_pings_often_is_not_cut_off(address: str) -> None:
    """As ours do to notice a silent server; gRPC's servers by default allow two pings."""
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(10):
        with contextlib.closing(writer):
            writer.write(PREFACE + frame(4, 0, b""))
            for number in range(6):
                ping = struct.pack(">Q", number)
                writer.write(frame(6, 0, ping))
                await reader.readuntil(frame(6, 1, ping))
        await writer.wait_closed()


async def test_a_client_that_does_nothing_but_ping_is_cut_off(address: str) -> None:
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(10):
        with contextlib.closing(writer):
            writer.write(PREFACE + frame(4, 0, b"") + 100 * frame(6, 0, bytes(8)))
            assert b"too_many_pings" in await reader.read()


@contextlib.asynccontextmanager
async def limited(health: Health, **limits: Any) -> AsyncIterator[Any]:
    """A caller of a server with other limits."""
    server = make_server(health, NAME, **limits)
    embedder_pb2_grpc.add_EmbedderServicer_to_server(Servicer(), server)
    port = listen(server, "127.0.0.1", 0)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield embedder_pb2_grpc.EmbedderStub(channel)
    await server.stop(None)


async def test_a_message_has_its_limit(health: Health) -> None:
    async with limited(health, max_message_bytes=1000) as stub:
        # A field's number and its length come before it.
        await stub.GetModel(embedder_pb2.GetModelRequest(model="x" * 997))
        with pytest.raises(grpc.aio.AioRpcError, match="larger than max") as error:
            await stub.GetModel(embedder_pb2.GetModelRequest(model="x" * 998))
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_calls_in_hand_have_a_limit(health: Health) -> None:
    slow = embedder_pb2.GetModelRequest(model="slow")
    async with limited(health, max_calls=2) as stub:
        in_hand = [stub.GetModel(slow) for _ in range(2)]
        await asyncio.wait([asyncio.ensure_future(call.code()) for call in in_hand], timeout=0.2)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.GetModel(embedder_pb2.GetModelRequest())
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in in_hand:
            call.cancel()


async def test_who_is_not_admitted_is_told_when_to_come_back(health: Health) -> None:
    """As gRPC's clients understand it, which wait so long if they are told to retry."""

    def admit(_context: Any) -> NoReturn:
        error = Overloaded("calls: more than the limit of 1")
        error.retry_after_s = 0.25
        raise error

    async with limited(health, admit=admit) as stub:
        with pytest.raises(grpc.aio.AioRpcError, match="limit of 1") as error:
            await stub.GetModel(embedder_pb2.GetModelRequest())
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ("grpc-retry-pushback-ms", "250") in tuple(error.value.trailing_metadata())


async def test_two_servers_never_share_a_port(address: str, health: Health) -> None:
    with pytest.raises(PortTaken, match=address):
        listen(make_server(health), "127.0.0.1", int(address.rpartition(":")[2]))
