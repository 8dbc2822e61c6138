"""A real embedder with tiny random weights, and indexers as the processes that they are."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from pymilvus import MilvusClient
from redis import Redis

from passerby.contract import DEAD_LETTERS_STREAM, INGEST_STREAM
from passerby.v1 import queue_pb2
from services.embedder.dcpl.model_directory import ModelCard, save_model
from services.embedder.dcpl.network import Architecture, Dcpl
from services.embedder.dcpl.vocabulary import Vocabulary
from tests.conftest import free_port, milvus_client, wait_until
from tests.support.indexer_parts import Indexer

REPOSITORY = Path(__file__).parents[2]


def make_model(directory: Path, seed: int) -> str:
    """Writes a tiny model with random weights; returns its version."""
    torch.manual_seed(seed)
    vocabulary = Vocabulary.build(["a man in red"])
    network = Dcpl(Architecture("mobilenet_v1", len(vocabulary), 6, 5, 16))
    network.encode_images(torch.randn(4, 3, 64, 32))  # statistics other than 0 and 1
    card = ModelCard(
        name=f"random-{seed}",
        training_data="nothing",
        metrics={},
        architecture=network.architecture,
        image_height=64,
        image_width=32,
        vocabulary=vocabulary,
    )
    return save_model(directory, network.eval(), card).version


def picture(number: int) -> bytes:
    """A PNG of random pixels, another one for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (16, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((32, 64), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def health(address: str, service: str = "") -> int | None:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            return int(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status)
        except grpc.RpcError:
            return None


@dataclass
class Service:
    """A process of ours that can be killed and started again."""

    name: str
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, *, ready: bool = True, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"services.{self.name}"],
            cwd=REPOSITORY,
            env={
                **os.environ,
                **self.environment,
                **environment,
                f"{self.name.upper()}_PORT": str(self.port),
            },
        )
        if ready:
            wait_until(lambda: health(self.address) == 1, f"{self.name} ready", 60)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "random"
    make_model(directory, 1)
    return directory


@pytest.fixture(scope="session")
def embedder(model_directory: Path) -> Iterator[Service]:
    service = Service(
        "embedder", {"EMBEDDER_MODELS": str(model_directory), "EMBEDDER_THREADS": "1"}
    )
    service.start()
    yield service
    service.end()


@dataclass
class Stack:
    """Empty stores, and an indexer to be started."""

    indexer: Service
    redis: Redis
    milvus: MilvusClient
    folder: Path

    def push(self, gallery: str, images: dict[str, bytes], **fields: object) -> bytes:
        batch = queue_pb2.ImageBatch(gallery=gallery)
        for filename, data in images.items():
            batch.images.add(filename=filename, data=data, **fields)
        entry: bytes = self.redis.xadd(INGEST_STREAM, {"batch": batch.SerializeToString()})
        return entry

    def drained(self, timeout_s: float = 30) -> None:
        wait_until(lambda: self.redis.xlen(INGEST_STREAM) == 0, "an empty queue", timeout_s)

    def rows(self, gallery: str) -> int:
        answer = self.milvus.query(
            f"gallery_{gallery}", filter="", output_fields=["count(*)"], consistency_level="Strong"
        )
        return int(answer[0]["count(*)"])

    def names(self, gallery: str) -> list[str]:
        keys = self.redis.scan_iter(f"passerby:names:{gallery}:*", count=10_000)
        return sorted(name.decode() for key in keys for name in self.redis.hvals(key))

    def dead_letters(self) -> list[dict[str, str]]:
        return [
            {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
            for _, fields in self.redis.xrange(DEAD_LETTERS_STREAM)
        ]


@pytest.fixture
def stack(redis_url: str, milvus_uri: str, embedder: Service, tmp_path: Path) -> Iterator[Stack]:
    (tmp_path / "allowed").mkdir()
    indexer = Service(
        "indexer",
        {
            "REDIS_URL": redis_url,
            "MILVUS_URI": milvus_uri,
            "EMBEDDER_ADDRESS": embedder.address,
            "INDEXER_ALLOWED_ROOTS": str(tmp_path / "allowed"),
            "IMAGES_URI": (tmp_path / "kept").as_uri(),
            "INDEXER_TAKEOVER_S": "2",
        },
    )
    milvus = milvus_client(milvus_uri)
    with Redis.from_url(redis_url) as redis:
        yield Stack(indexer, redis, milvus, tmp_path)
    milvus.close()
    if indexer.process is not None and indexer.process.poll() is None:
        indexer.process.kill()
        indexer.process.wait()


@pytest.fixture
async def indexer(stack: Stack, embedder: Service) -> AsyncIterator[Indexer]:
    indexer = Indexer(stack, embedder.address)
    yield indexer
    await indexer.close()
