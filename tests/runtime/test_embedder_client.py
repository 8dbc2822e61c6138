"""The embedder's client over real gRPC: results in order, rejections in place, errors as ours."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest

from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from services.runtime.embedder_client import EmbedderClient, Embedding, Rejected
from services.runtime.errors import (
    EmbedderFailed,
    InvalidRequest,
    NotFound,
    Overloaded,
    ServiceError,
    Unavailable,
    WrongModel,
)
from services.runtime.grpc_client import connect
from services.runtime.grpc_server import listen, make_server
from services.runtime.health import Health
from tests.support.embedder_servicer import EmptyEmbedder


class Servicer(EmptyEmbedder):
    """Gives the results that a test has put in, or raises its error."""

    def __init__(self) -> None:
        self.results: list[embedder_pb2.EmbedResult] = []
        self.error: Exception | None = None
        self.requests: list[Any] = []

    def results_for(self, request: object) -> list[embedder_pb2.EmbedResult]:
        self.requests.append(request)
        if self.error:
            raise self.error
        return self.results

    async def EmbedImages(  # noqa: N802 - the contract's name
        self, request: embedder_pb2.EmbedImagesRequest, context: Any
    ) -> embedder_pb2.EmbedImagesResponse:
        return embedder_pb2.EmbedImagesResponse(model="0123", results=self.results_for(request))

    async def EmbedCaptions(  # noqa: N802 - the contract's name
        self, request: embedder_pb2.EmbedCaptionsRequest, context: Any
    ) -> embedder_pb2.EmbedCaptionsResponse:
        return embedder_pb2.EmbedCaptionsResponse(model="0123", results=self.results_for(request))

    async def GetModel(  # noqa: N802 - the contract's name
        self, request: embedder_pb2.GetModelRequest, context: Any
    ) -> embedder_pb2.Model:
        self.results_for(request)
        return embedder_pb2.Model(name="example")


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@contextlib.asynccontextmanager
async def serving(servicer: Servicer) -> AsyncIterator[grpc.aio.Channel]:
    health = Health({})
    await health.start()
    server = make_server(health)
    embedder_pb2_grpc.add_EmbedderServicer_to_server(servicer, server)
    port = listen(server, "127.0.0.1", 0)
    await server.start()
    async with connect(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


@pytest.fixture
async def client(servicer: Servicer) -> AsyncIterator[EmbedderClient]:
    async with serving(servicer) as channel:
        yield EmbedderClient(channel)


def vector(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def refusal(code: str, message: str) -> embedder_pb2.EmbedResult:
    return embedder_pb2.EmbedResult(error=embedder_pb2.ItemError(code=code, message=message))


async def test_what_an_indexer_asks_for_is_bulk(servicer: Servicer) -> None:
    async with serving(servicer) as channel:
        await EmbedderClient(channel, bulk=True).embed_images([], timeout_s=5)
        await EmbedderClient(channel).embed_images([], timeout_s=5)
    assert [request.bulk for request in servicer.requests] == [True, False]


async def test_images_become_embeddings_and_the_broken_one_is_rejected_in_its_place(
    servicer: Servicer, client: EmbedderClient
) -> None:
    servicer.results = [
        embedder_pb2.EmbedResult(vector=vector(1, 0)),
        refusal("INVALID_ARGUMENT", "not an image"),
        embedder_pb2.EmbedResult(vector=vector(0, 1)),
    ]
    first, broken, last = await client.embed_images([b"a", b"b", b"c"], version="0123", timeout_s=5)
    assert servicer.requests == [
        embedder_pb2.EmbedImagesRequest(images=[b"a", b"b", b"c"], model="0123")
    ]
    assert isinstance(first, Embedding)
    assert isinstance(last, Embedding)
    assert (first.vector.tolist(), first.version) == ([1, 0], "0123")
    assert first.vector.dtype == np.float32
    assert (last.vector.tolist(), last.unknown_words) == ([0, 1], ())
    assert broken == Rejected("not an image")


async def test_a_caption_comes_with_the_words_that_were_ignored(
    servicer: Servicer, client: EmbedderClient
) -> None:
    servicer.results = [
        embedder_pb2.EmbedResult(vector=vector(1, 0), unknown_words=["violet", "hair"])
    ]
    (result,) = await client.embed_captions(["a violet woman"], timeout_s=5)
    assert servicer.requests == [embedder_pb2.EmbedCaptionsRequest(captions=["a violet woman"])]
    assert isinstance(result, Embedding)
    assert result.unknown_words == ("violet", "hair")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (WrongModel("why"), WrongModel),
        (Overloaded("why"), Overloaded),
        (InvalidRequest("why"), EmbedderFailed),
        (NotFound("why"), EmbedderFailed),
        (KeyError("why"), EmbedderFailed),
    ],
)
async def test_a_failed_call_raises_our_error(
    servicer: Servicer, client: EmbedderClient, raised: Exception, expected: type[ServiceError]
) -> None:
    servicer.error = raised
    for call in (
        client.embed_images([b"a"], timeout_s=5),
        client.embed_captions(["a"], timeout_s=5),
        client.ping(),
    ):
        with pytest.raises(ServiceError) as error:
            await call
        assert type(error.value) is expected
        assert isinstance(error.value.__cause__, grpc.aio.AioRpcError)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("RESOURCE_EXHAUSTED", Overloaded),
        ("UNAVAILABLE", Unavailable),
        ("INTERNAL", EmbedderFailed),
        ("a code that gRPC does not have", EmbedderFailed),
    ],
)
async def test_an_item_that_failed_without_its_own_fault_fails_the_call(
    servicer: Servicer, client: EmbedderClient, code: str, expected: type[ServiceError]
) -> None:
    servicer.results = [embedder_pb2.EmbedResult(vector=vector(1)), refusal(code, "why")]
    with pytest.raises(ServiceError, match="why") as error:
        await client.embed_images([b"a", b"b"], timeout_s=5)
    assert type(error.value) is expected


async def test_a_missing_result_is_the_embedders_failure(
    servicer: Servicer, client: EmbedderClient
) -> None:
    servicer.results = [embedder_pb2.EmbedResult(vector=vector(1))]
    with pytest.raises(EmbedderFailed, match="1 results for 2 items"):
        await client.embed_images([b"a", b"b"], timeout_s=5)


async def test_an_embedder_that_does_not_listen_is_unavailable() -> None:
    async with connect("127.0.0.1:1") as channel:
        with pytest.raises(Unavailable, match=r"cannot be reached|did not answer in time"):
            await EmbedderClient(channel).embed_captions(["a"], timeout_s=1)
