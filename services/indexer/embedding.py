"""Asks the embedder for vectors, in requests of a size that suits it."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import grpc
import numpy as np
from numpy.typing import NDArray

from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from services.indexer.retry import retry_until_available
from services.runtime.errors import Overloaded, Unavailable, WrongModel

# The embedder makes device-sized batches of all requests that wait; small ones share the work of
# decoding and leave the message limit far away.
_REQUEST_IMAGES = 32
_REQUEST_BYTES = 16 * 1024 * 1024
_CONCURRENT_REQUESTS = 16
# While embedders are replaced, some of them serve a model and others do not.
_REPLICAS_ASKED = 5

_AWAY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}


class EmbedderFailed(Exception):
    """The embedder calls the request itself wrong, or broke on it."""


@dataclass(frozen=True)
class Embedding:
    """vector: (dimension,) float32, normalised; version: of the model that made it."""

    vector: NDArray[np.float32]
    version: str


@dataclass(frozen=True)
class Unreadable:
    """The embedder refuses this image for good."""

    reason: str


class Embedder:
    """The embedder as the indexer sees it: it may be away or full, and is then waited for."""

    def __init__(self, channel: grpc.aio.Channel, timeout_s: float) -> None:
        self._stub = embedder_pb2_grpc.EmbedderStub(channel)
        self._timeout_s = timeout_s
        self._turns = asyncio.Semaphore(_CONCURRENT_REQUESTS)

    async def ping(self) -> None:
        """Raises if the embedder does not answer."""
        await self._stub.GetModel(embedder_pb2.GetModelRequest(), timeout=5)

    async def embed(
        self, images: Sequence[bytes], version: str = ""
    ) -> list[Embedding | Unreadable]:
        """One result for each encoded image, in order; by the model that the embedder prefers, or
        by that version. Raises EmbedderFailed, and WrongModel if no embedder has the version.
        """
        answers = await asyncio.gather(
            *(self._embed(request, version) for request in _requests(images)),
            return_exceptions=False,
        )
        return [result for answer in answers for result in answer]

    async def _embed(self, images: list[bytes], version: str) -> list[Embedding | Unreadable]:
        async def attempt(
            request: embedder_pb2.EmbedImagesRequest,
        ) -> embedder_pb2.EmbedImagesResponse:
            try:
                answer: embedder_pb2.EmbedImagesResponse = await self._stub.EmbedImages(
                    request, timeout=self._timeout_s
                )
            except grpc.aio.AioRpcError as error:
                raise _meaning(error.code().name, error.details() or "") from error
            for result in answer.results:
                if result.HasField("error") and result.error.code != "INVALID_ARGUMENT":
                    raise _meaning(result.error.code, result.error.message)
            return answer

        async with self._turns:
            # Only now: a request is a copy of its images.
            request = embedder_pb2.EmbedImagesRequest(images=images, model=version)
            for asked in range(1, _REPLICAS_ASKED + 1):
                try:
                    answer = await retry_until_available(lambda: attempt(request))
                    break
                except WrongModel:
                    if asked == _REPLICAS_ASKED:
                        raise
        if len(answer.results) != len(images):
            raise EmbedderFailed(f"{len(answer.results)} results for {len(images)} images")
        return [
            Unreadable(result.error.message)
            if result.HasField("error")
            else Embedding(np.frombuffer(result.vector, "<f4"), answer.model)
            for result in answer.results
        ]


def _requests(images: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Cuts the images into requests that are small in number and in bytes."""
    request: list[bytes] = []
    size = 0
    for image in images:
        if request and (len(request) == _REQUEST_IMAGES or size + len(image) > _REQUEST_BYTES):
            yield request
            request, size = [], 0
        request.append(image)
        size += len(image)
    if request:
        yield request


def _meaning(code: str, message: str) -> Exception:
    text = f"embedder: {code}: {message}"
    if code == grpc.StatusCode.FAILED_PRECONDITION.name:
        return WrongModel(text)
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED.name:
        return Overloaded(text)
    if code in {status.name for status in _AWAY}:
        return Unavailable(text)
    return EmbedderFailed(text)
