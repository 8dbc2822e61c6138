"""Answers of the HTTP API in OpenAPI: JSON, and the errors with their gRPC status names."""

from grpc import StatusCode

from services.query.held import IMAGE
from services.query.http.bodies import BODY_S, JSON
from services.query.http.connections import LINE
from services.query.http.openapi.schemas import Schema
from services.runtime.errors import HTTP_STATUS

_MEANINGS = {
    StatusCode.INVALID_ARGUMENT: (
        "The request is wrong, for example its address is longer than "
        f"{LINE.value:,} bytes; the message names the field."
    ),
    StatusCode.PERMISSION_DENIED: (
        "The header Host does not name this server; QUERY_ALLOWED_HOSTS has the names."
    ),
    StatusCode.NOT_FOUND: "The gallery or the image does not exist.",
    StatusCode.FAILED_PRECONDITION: "The gallery needs a model that the embedder does not serve.",
    StatusCode.RESOURCE_EXHAUSTED: (
        "Too many requests, of this client or together, or the embedder is busy: come back after "
        "the seconds in the header Retry-After."
    ),
    StatusCode.INTERNAL: "An unexpected error; the service's log has the details.",
    StatusCode.UNAVAILABLE: "Milvus, Redis or the embedder cannot be reached: try again.",
}
_OF_BODIES = (
    ("408", "TOO_SLOW", f"The body did not come within {BODY_S.value:g} seconds."),
    (
        "413",
        "TOO_LARGE",
        f"The body has more than {JSON.value:,} bytes as JSON, or more than {IMAGE.value:,} as an "
        f"image, which {IMAGE.setting} sets.",
    ),
    ("415", "ENCODED", "The body has a Content-Encoding: send it as it is."),
)
# HTTP status -> the response to a body that is wrong before it is read.
OF_BODIES = {status: {"$ref": f"#/components/responses/{name}"} for status, name, _ in _OF_BODIES}


def json_answer(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def errors(*codes: StatusCode) -> Schema:
    """HTTP status -> the response of that error."""
    return {
        str(HTTP_STATUS[code].value): {"$ref": f"#/components/responses/{code.name}"}
        for code in sorted(codes, key=lambda code: HTTP_STATUS[code])
    }


def components() -> dict[str, Schema]:
    """What `errors` and `OF_BODIES` refer to."""
    properties = {
        "code": {
            "type": "string",
            "description": "The name of a gRPC status.",
            "enum": [code.name for code in HTTP_STATUS],
        },
        "message": {"type": "string", "description": "What is wrong, and what to do about it."},
    }
    error = {"type": "object", "properties": properties, "required": ["code", "message"]}
    responses = {code.name: _error(code, meaning) for code, meaning in _MEANINGS.items()}
    responses |= {
        name: _error(StatusCode.INVALID_ARGUMENT, meaning) for _, name, meaning in _OF_BODIES
    }
    return {"schemas": {"Error": error}, "responses": responses}


def _error(code: StatusCode, description: str) -> Schema:
    schema = {"$ref": "#/components/schemas/Error", "properties": {"code": {"const": code.name}}}
    return json_answer(description, schema)
