"""The errors that callers see, and their translation to and from gRPC and HTTP, in one place."""

from http import HTTPStatus

import grpc
import grpc.aio
from grpc import StatusCode


class ServiceError(Exception):
    """An answer for the caller: a status and a message that names the input and the remedy.

    detail: what only those who run the service should read, such as the address of a host. It is
    part of the error's text, which goes to logs, and not of `public`, which goes to the caller.
    """

    status = StatusCode.INTERNAL
    http_status: HTTPStatus | None = None
    """Where HTTP tells apart what gRPC does not; else it follows from the status."""
    retry_after_s: float | None = None
    """When the caller may come back, if that is known."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(f"{message} ({detail})" if detail else message)
        self.public = message


class InvalidRequest(ServiceError):
    """The caller's fault: the message names the field."""

    status = StatusCode.INVALID_ARGUMENT


class Forbidden(ServiceError):
    """Whoever calls may not call this server."""

    status = StatusCode.PERMISSION_DENIED


class NotFound(ServiceError):
    """What the request names does not exist."""

    status = StatusCode.NOT_FOUND


class WrongModel(ServiceError):
    """The request is right but needs another model than the one that is served."""

    status = StatusCode.FAILED_PRECONDITION


class Overloaded(ServiceError):
    """Full for the moment: come back later."""

    status = StatusCode.RESOURCE_EXHAUSTED
    retry_after_s = 1.0


class Unavailable(ServiceError):
    """Something that this service needs is not there at the moment: come back later."""

    status = StatusCode.UNAVAILABLE


class EmbedderFailed(ServiceError):
    """The embedder calls our request itself wrong, or broke on it: asking again does not help."""


def from_status(code: StatusCode, details: str) -> ServiceError:
    """What the status of a failed call to the embedder, or of one item in it, means for the caller.

    details: the embedder's own words.
    """
    match code:
        case StatusCode.FAILED_PRECONDITION:
            return WrongModel(f"embedder: {details}")
        case StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded(f"the embedder is busy; try again in a moment ({details})")
        case StatusCode.UNAVAILABLE | StatusCode.CANCELLED:
            return Unavailable("the embedder cannot be reached; try again in a moment", details)
        case StatusCode.DEADLINE_EXCEEDED:
            return Unavailable("the embedder did not answer in time; try again")
        case _:
            return EmbedderFailed(f"the embedder failed: {code.name}", details)


HTTP_STATUS = {
    StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    StatusCode.UNIMPLEMENTED: HTTPStatus.METHOD_NOT_ALLOWED,
    StatusCode.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
    StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    StatusCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def first_line(error: BaseException) -> str:
    """The error in one line, with its type where it has no text.

    Of a failed call over gRPC, the server's own words, or else its status: its text is a block of
    lines of which the first says nothing.
    """
    text = str(error)
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        text = error.details() or error.code().name
    lines = text.strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
