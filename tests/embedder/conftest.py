"""A tiny model with random weights, and the embedder serving it."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from passerby.v1 import embedder_pb2_grpc
from services.embedder.dcpl.model_directory import ModelCard, load_model, save_model
from services.embedder.dcpl.network import Architecture, Dcpl
from services.embedder.dcpl.vocabulary import Vocabulary
from services.embedder.server import serve
from services.embedder.settings import EmbedderSettings
from tests.conftest import free_port

SERVING = health_pb2.HealthCheckResponse.SERVING


def random_network(image_tower: str = "mobilenet_v1", seed: int = 0) -> tuple[Dcpl, ModelCard]:
    """Not trained, but with statistics and offsets that folding has to respect."""
    vocabulary = Vocabulary.build(
        ["a woman and the man in red, blue or green dress, coat, shoes with bag"]
    )
    architecture = Architecture(image_tower, len(vocabulary), 32, 48, 64)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Dcpl(architecture).eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    card = ModelCard(
        name=f"tiny-{seed}",
        training_data="none",
        metrics={},
        architecture=architecture,
        image_height=64,
        image_width=32,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.25),
        vocabulary=vocabulary,
    )
    return network, card


def make_model(directory: Path, seed: int = 0) -> ModelCard:
    return save_model(directory, *random_network(seed=seed))


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    make_model(directory)
    return directory


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that share a forward pass are slow beside whatever else runs here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


@pytest.fixture(scope="session")
def bare(model_directory: Path) -> Bare:
    return Bare(*load_model(model_directory))


def random_pixels(seed: int, size: tuple[int, int] = (64, 32)) -> NDArray[np.uint8]:
    """Coarse noise, so that no two images look alike to the network; size: height and width."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (size[0] // 8, size[1] // 8, 3), np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def png(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@dataclass(frozen=True)
class Service:
    """An embedder that runs in the test's own event loop."""

    stub: Any
    health: Any
    stop: asyncio.Event
    ended: "asyncio.Task[None]"

    async def serves(self, name: str = "") -> bool:
        request = health_pb2.HealthCheckRequest(service=name)
        answer = await self.health.Check(request, timeout=10, wait_for_ready=True)
        return bool(answer.status == SERVING)


Serving = Callable[..., contextlib.AbstractAsyncContextManager[Service]]


@pytest.fixture
def serving(model_directory: Path) -> Serving:
    """`async with serving(max_queue=8) as service`: any setting; precise unless told otherwise."""

    @contextlib.asynccontextmanager
    async def start(*, ready: bool = True, **settings: Any) -> AsyncIterator[Service]:
        port, stop = free_port(), asyncio.Event()
        defaults = {"models": str(model_directory), "precision": "float32", "device": "cpu"}
        ended = asyncio.create_task(
            serve(EmbedderSettings(**{"port": port} | defaults | settings), stop)
        )
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = embedder_pb2_grpc.EmbedderStub(channel)
            service = Service(stub, health_pb2_grpc.HealthStub(channel), stop, ended)
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
