"""The embedder in the test's own event loop, and the bare network to compare it with."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from passerby.v1 import embedder_pb2_grpc
from services.embedder.__main__ import main
from services.embedder.dcpl.model_directory import ModelCard
from services.embedder.dcpl.network import Dcpl
from services.embedder.settings import EmbedderSettings
from tests.support.processes import free_port

SERVING = health_pb2.HealthCheckResponse.SERVING


@dataclass(frozen=True)
class Bare:
    """The network as training knows it: eager, float32, one at a time."""

    network: Dcpl
    card: ModelCard

    def image(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        mean, std = torch.tensor(self.card.mean), torch.tensor(self.card.std)
        values = ((torch.from_numpy(pixels) / 255 - mean) / std).permute(2, 0, 1)
        with torch.inference_mode():
            return unit(self.network.encode_images(values[None].contiguous())[0].numpy())

    def caption(self, caption: str) -> NDArray[np.float32]:
        words = torch.tensor([self.card.vocabulary.encode(caption)])
        with torch.inference_mode():
            lengths = torch.tensor([words.shape[1]])
            return unit(self.network.encode_captions(words, lengths)[0].numpy())


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return vector / np.linalg.norm(vector)


@dataclass(frozen=True)
class EmbedderInLoop:
    """An embedder that runs in the test's own event loop."""

    stub: Any
    health: Any
    stop: asyncio.Event
    ended: "asyncio.Task[None]"

    async def serves(self, name: str = "") -> bool:
        request = health_pb2.HealthCheckRequest(service=name)
        answer = await self.health.Check(request, timeout=10, wait_for_ready=True)
        return bool(answer.status == SERVING)


Serving = Callable[..., contextlib.AbstractAsyncContextManager[EmbedderInLoop]]


def serving_from(model_directory: Path) -> Serving:
    """`async with serving(max_queue=8) as service`: any setting; precise unless told otherwise."""

    @contextlib.asynccontextmanager
    async def start(*, ready: bool = True, **settings: Any) -> AsyncIterator[EmbedderInLoop]:
        port, stop = free_port(), asyncio.Event()
        defaults = {"models": str(model_directory), "precision": "float32", "device": "cpu"}
        ended = asyncio.create_task(
            main(EmbedderSettings(**{"port": port} | defaults | settings), stop)
        )
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = embedder_pb2_grpc.EmbedderStub(channel)
            service = EmbedderInLoop(stub, health_pb2_grpc.HealthStub(channel), stop, ended)
            try:
                while ready:
                    checking = asyncio.create_task(service.serves())
                    await asyncio.wait({checking, ended}, return_when=asyncio.FIRST_COMPLETED)
                    if ended.done():
                        checking.cancel()
                        await ended
                    ready = not await checking
                    await asyncio.sleep(0.01)
                yield service
            finally:
                stop.set()
                await ended

    return start
