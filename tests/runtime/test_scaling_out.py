"""Clients find the pods that are added or replaced, as DNS names them, and no call fails."""

import asyncio
import contextlib
import socket
import socketserver
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import pytest

from passerby.channel import CHANNEL_OPTIONS
from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from services.runtime import grpc_server
from services.runtime.health import Health
from tests.support.embedder_servicer import EmptyEmbedder


class HeadlessService(socketserver.BaseRequestHandler):
    """DNS as a cluster serves it: every name has the addresses of all pods."""

    addresses: tuple[str, ...] = ()

    def handle(self) -> None:
        query, reply_to = self.request
        end = 12
        while query[end]:
            end += query[end] + 1
        question = query[12 : end + 5]
        (kind,) = struct.unpack_from(">H", query, end + 1)
        found = self.addresses if kind == 1 else ()
        header = query[:2] + struct.pack(">5H", 0x8180, 1, len(found), 0, 0)
        answers = [
            b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0, 4) + socket.inet_aton(address)
            for address in found
        ]
        reply_to.sendto(header + question + b"".join(answers), self.client_address)


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(HeadlessService, "addresses", ("127.0.0.1",))
    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), HeadlessService) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@contextlib.asynccontextmanager
async def pod(address: str, port: int, calls: Counter[str]) -> AsyncIterator[int]:
    class Embedder(EmptyEmbedder):
        async def GetModel(  # noqa: N802 - the contract's name
            self, request: embedder_pb2.GetModelRequest, context: Any
        ) -> embedder_pb2.Model:
            calls[address] += 1
            return embedder_pb2.Model(name="m")

    health = Health({})
    server = grpc_server.make_server(health, "passerby.v1.Embedder")
    embedder_pb2_grpc.add_EmbedderServicer_to_server(Embedder(), server)
    port = grpc_server.listen(server, address, port)
    await server.start()
    await health.start()
    yield port
    await server.stop(0)


@contextlib.asynccontextmanager
async def embedder_behind(
    dns: str, port: int
) -> AsyncIterator[Callable[[], Awaitable[embedder_pb2.Model]]]:
    """Yields a call of the pods that DNS names."""
    target = f"dns://{dns}/embedder.test:{port}"
    async with grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS) as channel:
        embedder: embedder_pb2_grpc.EmbedderAsyncStub = embedder_pb2_grpc.EmbedderStub(channel)
        yield lambda: embedder.GetModel(embedder_pb2.GetModelRequest(), timeout=10)


async def test_an_added_pod_is_found_and_no_call_fails(
    dns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_server, "MAX_CONNECTION_AGE_MS", 200)
    calls: Counter[str] = Counter()
    async with (
        pod("127.0.0.1", 0, calls) as port,
        pod("127.0.0.2", port, calls),
        embedder_behind(dns, port) as call,
    ):
        await call()
        assert calls.keys() == {"127.0.0.1"}
        HeadlessService.addresses = ("127.0.0.1", "127.0.0.2")
        async with asyncio.timeout(20):
            while calls["127.0.0.2"] < 10:
                await call()
                await asyncio.sleep(0.01)


async def test_no_call_fails_while_every_pod_is_replaced_within_seconds(dns: str) -> None:
    """A rollout: DNS names each new pod before the old one stops, and all within the 30 seconds
    that gRPC by default leaves between two questions to DNS."""
    HeadlessService.addresses = ("127.0.0.1", "127.0.0.2")
    calls: Counter[str] = Counter()
    async with contextlib.AsyncExitStack() as new_pods, contextlib.AsyncExitStack() as first:
        port = await first.enter_async_context(pod("127.0.0.1", 0, calls))
        async with embedder_behind(dns, port) as call:
            async with pod("127.0.0.2", port, calls):
                while len(calls) < 2:
                    await call()
                await new_pods.enter_async_context(pod("127.0.0.3", port, calls))
                HeadlessService.addresses = ("127.0.0.2", "127.0.0.3")
                await first.aclose()
                await call()
                await new_pods.enter_async_context(pod("127.0.0.4", port, calls))
                HeadlessService.addresses = ("127.0.0.3", "127.0.0.4")
            while len(calls) < 4:
                await call()
                await asyncio.sleep(0.01)
