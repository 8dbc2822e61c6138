"""Statuses of the embedder become errors that say whether to wait, change something or stop."""

from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime.errors import (
    EmbedderFailed,
    Overloaded,
    ServiceError,
    Unavailable,
    WrongModel,
    first_line,
    from_status,
)

MEANINGS: dict[StatusCode, tuple[type[ServiceError], str]] = {
    StatusCode.FAILED_PRECONDITION: (WrongModel, "embedder: why"),
    StatusCode.RESOURCE_EXHAUSTED: (
        Overloaded,
        "the embedder is busy; try again in a moment (why)",
    ),
    StatusCode.UNAVAILABLE: (
        Unavailable,
        "the embedder cannot be reached; try again in a moment (why)",
    ),
    StatusCode.CANCELLED: (
        Unavailable,
        "the embedder cannot be reached; try again in a moment (why)",
    ),
    StatusCode.DEADLINE_EXCEEDED: (
        Unavailable,
        "the embedder did not answer in time; try again",
    ),
}


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
def test_each_status_becomes_one_error_with_the_embedders_words(code: StatusCode) -> None:
    failed = (EmbedderFailed, f"the embedder failed: {code.name} (why)")
    error = from_status(code, "why")
    assert (type(error), str(error)) == MEANINGS.get(code, failed)


@pytest.mark.parametrize(
    ("details", "line"),
    [
        ("connections to all backends failing\nlast error: refused", None),
        ("", "UNAVAILABLE"),
        (None, "UNAVAILABLE"),
    ],
)
def test_a_failed_call_in_one_line_is_what_the_server_said(
    details: str | None, line: str | None
) -> None:
    error = AioRpcError(StatusCode.UNAVAILABLE, Metadata(), Metadata(), details)
    assert str(error).startswith("<AioRpcError"), "which would be its first line"
    assert first_line(error) == (line or "connections to all backends failing")


async def test_a_call_that_nobody_answers_is_told_in_one_line() -> None:
    """Of both kinds of channel: their errors have no class in common but RpcError."""
    # The stub's types leave its methods out, as they differ for asynchronous channels.
    stub: Any
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as blocking:
            stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    async with grpc.aio.insecure_channel("127.0.0.1:1") as asynchronous_channel:
        stub = health_pb2_grpc.HealthStub(asynchronous_channel)
        with pytest.raises(grpc.RpcError) as asynchronous:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    for error in (blocking.value, asynchronous.value):
        assert "127.0.0.1:1" in first_line(error)
        assert "RpcError" not in first_line(error)
