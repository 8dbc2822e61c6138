"""An embedder in the test's own event loop that ends, hangs or fails where the test says so."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc.aio
import numpy as np

from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from tests.support.embedder_servicer import EmptyEmbedder
from tests.support.processes import free_port

_VECTOR = np.eye(1, 16, dtype="<f4").tobytes()

Fate = Callable[[Sequence[bytes], Any], Awaitable[None]]


class MortalEmbedder(EmptyEmbedder):
    """Embeds everything, once `fate` has let it pass."""

    def __init__(self, fate: Fate) -> None:
        self.fate = fate
        self.address = f"127.0.0.1:{free_port()}"
        self.deaths = 0
        self._server: Any = None

    async def EmbedImages(  # noqa: N802 - the contract's name
        self, request: embedder_pb2.EmbedImagesRequest, context: Any
    ) -> embedder_pb2.EmbedImagesResponse:
        await self.fate(request.images, context)
        results = [embedder_pb2.EmbedResult(vector=_VECTOR) for _ in request.images]
        return embedder_pb2.EmbedImagesResponse(model="version", results=results)

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        embedder_pb2_grpc.add_EmbedderServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    async def die(self) -> None:
        """Ends with all calls in hand, as a process that is killed does, and starts again."""
        self.deaths += 1
        server, self._server = self._server, None
        if server:
            self._reborn = asyncio.create_task(self._again(server))
        await asyncio.Event().wait()

    async def _again(self, server: Any) -> None:
        await server.stop(None)
        await asyncio.sleep(0.05)
        await self.start()
