"""A service's channel to another one leaves out the replicas that are not ready, or silent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from services.runtime.grpc_client import connect
from services.runtime.grpc_server import listen, make_server
from services.runtime.health import Health
from tests.support.embedder_servicer import EmptyEmbedder


class Named(EmptyEmbedder):
    """Says which replica answers."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def GetModel(  # noqa: N802 - the contract's name
        self, request: embedder_pb2.GetModelRequest, context: Any
    ) -> embedder_pb2.Model:
        return embedder_pb2.Model(name=self.name)


@contextlib.asynccontextmanager
async def replica(name: str, *, ready: bool) -> AsyncIterator[tuple[int, Health]]:
    """Yields its port and its health."""
    health = Health({"models": None})
    await health.start()
    if ready:
        await health.report("models", "")
    server = make_server(health)
    embedder_pb2_grpc.add_EmbedderServicer_to_server(Named(name), server)
    port = listen(server, "127.0.0.1", 0)
    await server.start()
    yield port, health
    await server.stop(None)


@contextlib.asynccontextmanager
async def line(port: int, silent: asyncio.Event) -> AsyncIterator[int]:
    """A port that leads to the other until `silent` is set. From then on it accepts whatever comes
    and nothing comes back, as from a process that is frozen."""

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.closing(target):
            while data := await source.read(65536):
                if not silent.is_set():
                    target.write(data)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        beyond_reader, beyond_writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(carry(reader, beyond_writer), carry(beyond_reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_calls_pass_over_a_replica_that_is_not_ready_or_drains() -> None:
    async with (
        replica("ready", ready=True) as (first_port, first),
        replica("loading", ready=False) as (second_port, second),
        connect(f"ipv4:127.0.0.1:{first_port},127.0.0.1:{second_port}") as channel,
        asyncio.timeout(30),
    ):
        stub: embedder_pb2_grpc.EmbedderAsyncStub = embedder_pb2_grpc.EmbedderStub(channel)

        async def answering() -> set[str]:
            request = embedder_pb2.GetModelRequest()
            return {(await stub.GetModel(request, wait_for_ready=True)).name for _ in range(6)}

        assert await answering() == {"ready"}
        await second.report("models", "")
        while await answering() != {"ready", "loading"}:
            await asyncio.sleep(0.01)
        await first.drain()
        while await answering() != {"loading"}:
            await asyncio.sleep(0.01)


async def test_calls_are_retried_elsewhere_when_a_replica_falls_silent() -> None:
    silent = asyncio.Event()
    async with (
        replica("steady", ready=True) as (steady, _),
        replica("lost", ready=True) as (lost, _),
        line(lost, silent) as lost,
        connect(f"ipv4:127.0.0.1:{steady},127.0.0.1:{lost}") as channel,
    ):
        stub: embedder_pb2_grpc.EmbedderAsyncStub = embedder_pb2_grpc.EmbedderStub(channel)

        async def answering() -> set[str]:
            calls = [stub.GetModel(embedder_pb2.GetModelRequest(), timeout=4) for _ in range(20)]
            return {model.name for model in await asyncio.gather(*calls)}

        async with asyncio.timeout(30):
            while await answering() != {"steady", "lost"}:
                await asyncio.sleep(0.01)
        silent.set()
        # Half of the calls are made to the silent one, and all are answered in time.
        assert await answering() == {"steady"}


async def test_retries_have_a_budget_that_answers_fill_again() -> None:
    """Where nothing is answered, 300 calls are not made 1,500 times."""

    class Failing(EmptyEmbedder):
        calls, fails = 0, True

        async def GetModel(  # noqa: N802 - the contract's name
            self, request: embedder_pb2.GetModelRequest, context: Any
        ) -> embedder_pb2.Model:
            self.calls += 1
            if self.fails:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            return embedder_pb2.Model()

    failing = Failing()
    server = grpc.aio.server()
    embedder_pb2_grpc.add_EmbedderServicer_to_server(failing, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with connect(f"127.0.0.1:{port}") as channel:
        stub: Any = embedder_pb2_grpc.EmbedderStub(channel)

        async def call() -> bool:
            try:
                await stub.GetModel(embedder_pb2.GetModelRequest(), timeout=20)
            except grpc.aio.AioRpcError:
                return False
            return True

        await asyncio.gather(*(call() for _ in range(300)))
        assert 300 < failing.calls < 700
        failing.fails = False
        assert all(await asyncio.gather(*(call() for _ in range(300))))
        failing.calls, failing.fails = 0, True
        assert not await call()
        assert failing.calls == 5
    await server.stop(None)
