"""The query service as a process of its own, beside a real Redis, Milvus and embedder."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray
from redis import Redis

from passerby.v1 import search_pb2_grpc
from services.embedder.dcpl.model_directory import ModelCard, save_model
from services.embedder.dcpl.network import Architecture, Dcpl
from services.embedder.dcpl.vocabulary import Vocabulary
from services.gallery.images import Images
from services.gallery.names import Names
from services.gallery.redis_connection import connect
from services.gallery.vectors import Row, Vectors
from tests.conftest import free_port, wait_until

REPOSITORY = Path(__file__).parents[2]
DIMENSION = 16
VOCABULARY = Vocabulary.build(["a man in a red jacket", "a woman in a purple dress"])


@dataclass(frozen=True)
class Model:
    """An untrained network: its vectors mean nothing, but are always the same."""

    directory: Path
    version: str


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.manual_seed(1)
    network = Dcpl(Architecture("mobilenet_v1", len(VOCABULARY), 8, 8, DIMENSION))
    card = ModelCard(
        name="untrained",
        training_data="nothing",
        metrics={},
        architecture=network.architecture,
        image_height=64,
        image_width=32,
        vocabulary=VOCABULARY,
    )
    directory = tmp_path_factory.mktemp("untrained")
    return Model(directory, save_model(directory, network.eval(), card).version)


@contextlib.contextmanager
def process(service: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of the services; killed at the end unless it has ended by itself."""
    command = [sys.executable, "-m", f"services.{service}"]
    running = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, **environment})
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def health(address: str, name: str = "") -> str:
    """SERVING or NOT_SERVING, or the status of a failed call."""
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=name)
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
        except grpc.RpcError as error:
            return str(error.code().name)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


@contextlib.contextmanager
def embedder_running(model: Model, port: int | None = None) -> Iterator[str]:
    """The embedder with the untrained network; yields its address."""
    port = port or free_port()
    address = f"127.0.0.1:{port}"
    settings = {"EMBEDDER_MODELS": str(model.directory), "EMBEDDER_PORT": str(port)}
    with process("embedder", EMBEDDER_THREADS="1", **settings) as embedder:
        wait_until(
            lambda: embedder.poll() is not None or health(address) == "SERVING", "embedder", 120
        )
        yield address


@pytest.fixture(scope="session")
def embedder(model: Model) -> Iterator[str]:
    with embedder_running(model) as address:
        yield address


@dataclass(frozen=True)
class Service:
    """The query service and what it reads from."""

    grpc: str
    http: str
    environment: Mapping[str, str]
    version: str

    @contextlib.contextmanager
    def stub(self) -> Iterator[search_pb2_grpc.SearchStub]:
        with grpc.insecure_channel(self.grpc) as channel:
            yield search_pb2_grpc.SearchStub(channel)

    def get(self, path: str, **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
        return self.send(urllib.request.Request(self.http + path, headers=headers))

    def post(self, path: str, body: object, **headers: str) -> tuple[int, Any]:
        """body: bytes as they are, anything else as JSON. Returns the status and the answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.http + path, data, headers)
        status, answer, _ = self.send(request)
        return status, json.loads(answer)

    @staticmethod
    def send(request: urllib.request.Request) -> tuple[int, bytes, Mapping[str, str]]:
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, response.read(), response.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers

    def fill(
        self,
        gallery: str,
        rows: Mapping[str, NDArray[np.float32]],
        *,
        images: Mapping[str, bytes] | None = None,
        named: bool = True,
        **fields: Any,
    ) -> None:
        """Writes images (filename -> vector) as the indexer does; fields: as in Row."""

        async def write() -> None:
            redis = connect(self.environment["REDIS_URL"], 5)
            vectors = Vectors(self.environment["MILVUS_URI"])
            ids = await Names(redis).claim(gallery, list(rows))
            if images:
                kept = dict(zip(rows, ids, strict=True))
                store = Images(self.environment["IMAGES_URI"])
                await store.put(gallery, {kept[name]: data for name, data in images.items()})
            await vectors.upsert(
                gallery,
                self.version,
                [Row(id_, row, **fields) for id_, row in zip(ids, rows.values(), strict=True)],
            )
            if not named:
                await Names(redis).forget(gallery, ids)
            await vectors.close()
            await redis.aclose()

        # A thread, because Playwright's event loop may be running in this one.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: asyncio.run(write())).result()


@contextlib.contextmanager
def query_running(environment: Mapping[str, str], version: str) -> Iterator[Service]:
    """The query service as soon as it answers, ready or not."""
    port, http_port = free_port(), free_port()
    ports = {"QUERY_PORT": str(port), "QUERY_HTTP_PORT": str(http_port)}
    with process("query", **environment, **ports) as query:
        service = Service(
            f"127.0.0.1:{port}", f"http://127.0.0.1:{http_port}", environment, version
        )
        wait_until(
            lambda: query.poll() is not None or health(service.grpc, "live") == "SERVING",
            "query",
            90,
        )
        yield service


@pytest.fixture(scope="session")
def service(
    redis_server: str,
    milvus_server: str,
    embedder: str,
    model: Model,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    with Redis.from_url(redis_server) as redis:
        redis.flushall()  # what other folders' tests left on the queue
    environment = {
        "REDIS_URL": redis_server,
        "MILVUS_URI": milvus_server,
        "EMBEDDER_ADDRESS": embedder,
        "IMAGES_URI": tmp_path_factory.mktemp("images").as_uri(),
    }
    with query_running(environment, model.version) as service:
        wait_until(lambda: health(service.grpc) == "SERVING", "the query service ready", 90)
        yield service


@pytest.fixture
def other_model(service: Service) -> Service:
    """Writes rows of a model that the embedder does not have."""
    return replace(service, version="0123456789ab")


@pytest.fixture
def gallery(request: pytest.FixtureRequest) -> str:
    """A gallery's name that no other test uses."""
    kept = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())
    return f"{kept[:50]}-{zlib.crc32(request.node.nodeid.encode())}"


def fan(count: int) -> NDArray[np.float32]:
    """(count, DIMENSION) unit vectors, each less similar to the first than the one before."""
    angles = np.linspace(0, 0.9 * np.pi, count)
    vectors = np.zeros((count, DIMENSION), np.float32)
    vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
    return vectors


def people(count: int, prefix: str = "") -> dict[str, NDArray[np.float32]]:
    """Images by name, in the order in which a search for the first one finds them."""
    return {f"{prefix}{i}.jpg": vector for i, vector in enumerate(fan(count))}
