"""What the embedder makes of a caption or an image, and what its errors mean to a caller."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from services.runtime.errors import (
    InvalidRequest,
    Overloaded,
    ServiceError,
    Unavailable,
    WrongModel,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Embedded:
    """vector: (dimension,) float32, L2-normalised."""

    vector: NDArray[np.float32]
    unknown_words: tuple[str, ...] = ()


class Embedder:
    """The embedder service behind a channel; each call has `timeout_s` at most."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: embedder_pb2_grpc.EmbedderAsyncStub = embedder_pb2_grpc.EmbedderStub(channel)

    async def ping(self) -> None:
        """Raises a ServiceError if the embedder does not answer."""
        await _answer(self._stub.GetModel(embedder_pb2.GetModelRequest(), timeout=5), "")

    async def caption(self, caption: str, version: str, timeout_s: float) -> Embedded:
        """The caption in the space of the model `version`."""
        request = embedder_pb2.EmbedCaptionsRequest(captions=[caption], model=version)
        answer = await _answer(self._stub.EmbedCaptions(request, timeout=timeout_s), version)
        return _embedded("caption", answer.results)

    async def image(self, image: bytes, version: str, timeout_s: float) -> Embedded:
        """The encoded image in the space of the model `version`."""
        request = embedder_pb2.EmbedImagesRequest(images=[image], model=version)
        answer = await _answer(self._stub.EmbedImages(request, timeout=timeout_s), version)
        return _embedded("image", answer.results)


async def _answer(call: Awaitable[T], version: str) -> T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        match error.code():
            case grpc.StatusCode.FAILED_PRECONDITION:
                raise WrongModel(
                    f"the gallery is embedded with model {version}, which the embedder does not "
                    "serve: add that model's directory to EMBEDDER_MODELS, or push the images "
                    f"again to embed them with the present one ({error.details()})"
                ) from error
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise Overloaded(
                    f"the embedder is busy; try again in a moment ({error.details()})"
                ) from error
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
                raise Unavailable(
                    f"the embedder cannot be reached; try again in a moment ({error.details()})"
                ) from error
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                raise Unavailable("the embedder did not answer in time; try again") from error
            case code:
                raise ServiceError(f"the embedder failed: {code.name} {error.details()}") from error


def _embedded(field: str, results: Sequence[embedder_pb2.EmbedResult]) -> Embedded:
    (result,) = results
    if result.HasField("error"):
        message = f"{field}: {result.error.message}"
        if result.error.code == grpc.StatusCode.INVALID_ARGUMENT.name:
            raise InvalidRequest(message)
        raise ServiceError(f"the embedder failed: {result.error.code} {message}")
    vector = np.frombuffer(result.vector, "<f4")
    return Embedded(vector, tuple(result.unknown_words))
