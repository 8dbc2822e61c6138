"""Statuses of the embedder become errors that say whether to wait, change something or stop."""

import pytest
from grpc import StatusCode

from services.runtime.errors import (
    EmbedderFailed,
    Overloaded,
    ServiceError,
    Unavailable,
    WrongModel,
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
    failed = (EmbedderFailed, f"the embedder failed: {code.name} why")
    error = from_status(code, "why")
    assert (type(error), str(error)) == MEANINGS.get(code, failed)
