"""The embedder's client: images and captions in, embeddings or the reasons for a rejection out."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from passerby import tracing
from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from services.runtime.errors import EmbedderFailed, from_status
from services.runtime.health import PROBE_TIMEOUT_S

T = TypeVar("T")

_SERVICE = embedder_pb2.DESCRIPTOR.services_by_name["Embedder"].full_name


@dataclass(frozen=True)
class Embedding:
    """vector: (dimension,) float32, L2-normalised; version: of the model that made it."""

    vector: NDArray[np.float32]
    version: str
    unknown_words: tuple[str, ...] = ()
    """Of a caption: what the model does not know and ignored."""


@dataclass(frozen=True)
class Rejected:
    """The embedder will never take this image or caption."""

    reason: str


class EmbedderClient:
    """The embedder behind a channel. Every method raises the ServiceErrors of from_status.

    version: of the model to embed with; empty for the one that the embedder prefers.
    """

    def __init__(self, channel: grpc.aio.Channel, *, bulk: bool = False) -> None:
        """bulk: nobody waits for the images; the embedder lets searches go first."""
        self._bulk = bulk
        self._stub: embedder_pb2_grpc.EmbedderAsyncStub = embedder_pb2_grpc.EmbedderStub(channel)

    async def ping(self) -> None:
        """Raises a ServiceError if the embedder does not answer."""
        await _answer(self._stub.GetModel(embedder_pb2.GetModelRequest(), timeout=PROBE_TIMEOUT_S))

    async def preferred_version(self) -> str:
        """Of the model that embeds images for which none is named."""
        request = embedder_pb2.GetModelRequest()
        return (await _answer(self._stub.GetModel(request, timeout=PROBE_TIMEOUT_S))).version

    async def embed_images(
        self, images: Sequence[bytes], *, version: str = "", timeout_s: float
    ) -> list[Embedding | Rejected]:
        """One result for each encoded image, in order."""
        request = embedder_pb2.EmbedImagesRequest(images=images, model=version, bulk=self._bulk)
        response = await _call("EmbedImages", self._stub.EmbedImages, request, timeout_s)
        return _results(response, len(images))

    async def embed_captions(
        self, captions: Sequence[str], *, version: str = "", timeout_s: float
    ) -> list[Embedding | Rejected]:
        """One result for each caption, in order."""
        request = embedder_pb2.EmbedCaptionsRequest(captions=captions, model=version)
        response = await _call("EmbedCaptions", self._stub.EmbedCaptions, request, timeout_s)
        return _results(response, len(captions))


async def _call(
    method: str, call: Callable[..., Awaitable[T]], request: object, timeout_s: float
) -> T:
    """Within a trace, a span of it, which the embedder goes on with."""
    name = f"{_SERVICE}/{method}"
    with tracing.step(name, "client", {"rpc.system.name": "grpc", "rpc.method": name}):
        return await _answer(call(request, timeout=timeout_s, metadata=tracing.metadata()))


async def _answer(call: Awaitable[T]) -> T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise from_status(error.code(), error.details() or "") from error


def _results(
    response: embedder_pb2.EmbedImagesResponse | embedder_pb2.EmbedCaptionsResponse, count: int
) -> list[Embedding | Rejected]:
    if len(response.results) != count:
        raise EmbedderFailed(f"the embedder gave {len(response.results)} results for {count} items")
    return [_result(result, response.model) for result in response.results]


def _result(result: embedder_pb2.EmbedResult, version: str) -> Embedding | Rejected:
    if not result.HasField("error"):
        vector = np.frombuffer(result.vector, "<f4")
        return Embedding(vector, version, tuple(result.unknown_words))
    code = grpc.StatusCode.__members__.get(result.error.code, grpc.StatusCode.UNKNOWN)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return Rejected(result.error.message)
    raise from_status(code, result.error.message)
