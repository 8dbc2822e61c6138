"""A service's channel to another one leaves out the replicas that are not ready."""

import asyncio
from typing import Any

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
        stub: embedder_pb2_grpc.EmbedderAsyncStub = embedder_pb2_grpc.EmbedderStub(channel)

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
