"""The query service as a process of its own, and galleries filled as the indexer fills them."""

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from passerby.v1 import search_pb2_grpc
from services.gallery.images import Images
from services.gallery.names import Names
from services.gallery.redis_connection import connect
from services.gallery.vectors import Row, Vectors
from tests.support import openapi
from tests.support.models import DIMENSION
from tests.support.processes import Service, free_port


@dataclass(frozen=True)
class Model:
    """A model directory, and its version."""

    directory: Path
    version: str


@contextlib.contextmanager
def embedder_running(model: Model, port: int | None = None) -> Iterator[str]:
    """An embedder that serves the model; yields its address."""
    environment = {"EMBEDDER_MODELS": str(model.directory), "EMBEDDER_THREADS": "1"}
    with Service("embedder", environment, port or free_port()) as embedder:
        embedder.wait_until_serving()
        yield embedder.address


@dataclass(frozen=True)
class QueryService:
    """A query service that runs, and what it reads from."""

    grpc: str
    http: str
    private: str
    environment: Mapping[str, str]
    version: str  # of the model whose vectors `fill` writes

    @contextlib.contextmanager
    def stub(self) -> Iterator[search_pb2_grpc.SearchStub]:
        with grpc.insecure_channel(self.grpc) as channel:
            yield search_pb2_grpc.SearchStub(channel)

    def get(self, path: str, **headers: str) -> tuple[int, bytes, Message]:
        return self.send(urllib.request.Request(self.http + path, headers=headers))

    def ask_private(self, path: str) -> tuple[int, bytes]:
        """What the port for the kubelet and for monitoring answers."""
        try:
            with urllib.request.urlopen(self.private + path) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def post(self, path: str, body: object, **headers: str) -> tuple[int, Any]:
        """body: bytes as they are, anything else as JSON. Returns the status and the answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.http + path, data, headers)
        status, answer, _ = self.send(request)
        return status, json.loads(answer)

    @staticmethod
    def send(request: urllib.request.Request) -> tuple[int, bytes, Message]:
        """The answer, which has to be one that the OpenAPI document promises."""
        try:
            with urllib.request.urlopen(request) as response:
                answer = response.status, response.read(), response.headers
        except urllib.error.HTTPError as error:
            with error:
                answer = error.code, error.read(), error.headers
        openapi.check(request.get_method(), request.selector, *answer)
        return answer

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
            ids = [id_ for id_ in await Names(redis).claim(gallery, list(rows)) if id_ is not None]
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
def query_running(environment: Mapping[str, str], version: str) -> Iterator[QueryService]:
    """The query service as soon as it answers, ready or not."""
    ports = {"QUERY_HTTP_PORT": str(free_port()), "QUERY_METRICS_PORT": str(free_port())}
    with Service("query", {**environment, **ports}) as query:
        query.wait_until_serving("live")
        public, private = (f"http://127.0.0.1:{port}" for port in ports.values())
        yield QueryService(query.address, public, private, environment, version)


def fan(count: int) -> NDArray[np.float32]:
    """(count, DIMENSION) unit vectors, each less similar to the first than the one before."""
    angles = np.linspace(0, 0.9 * np.pi, count)
    vectors = np.zeros((count, DIMENSION), np.float32)
    vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
    return vectors


def people(count: int, prefix: str = "") -> dict[str, NDArray[np.float32]]:
    """Images by name, in the order in which a search for the first one finds them."""
    return {f"{prefix}{i}.jpg": vector for i, vector in enumerate(fan(count))}
