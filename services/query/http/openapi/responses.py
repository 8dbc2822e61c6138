"""Answers of the HTTP API in OpenAPI: JSON, and the errors with their gRPC status names."""

from grpc import StatusCode

from services.query.http.guards import BODY, LINE
from services.query.http.openapi.schemas import Schema
from services.runtime.errors import HTTP_STATUS

_MEANINGS = {
    StatusCode.INVALID_ARGUMENT: (
        "The request is wrong; the message names the field. In plain text if it is not HTTP, or "
        f"if its address is longer than {LINE.value:,} bytes."
    ),
    StatusCode.PERMISSION_DENIED: (
        "The header Host does not name this server, which serves only its own machine."
    ),
    StatusCode.NOT_FOUND: "The gallery or the image does not exist.",
    StatusCode.FAILED_PRECONDITION: "The gallery needs a model that the embedder does not serve.",
    StatusCode.RESOURCE_EXHAUSTED: "The embedder is busy: try again in a moment.",
    StatusCode.INTERNAL: "An unexpected error; the service's log has the details.",
    StatusCode.UNAVAILABLE: "Milvus, Redis or the embedder cannot be reached: try again.",
}
TOO_LARGE = {"413": {"$ref": "#/components/responses/TOO_LARGE"}}


def json_answer(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def errors(*codes: StatusCode) -> Schema:
    """HTTP status -> the response of that error."""
    return {
        str(HTTP_STATUS[code].value): {"$ref": f"#/components/responses/{code.name}"}
        for code in sorted(codes, key=lambda code: HTTP_STATUS[code])
    }


def components() -> dict[str, Schema]:
    """What `errors` and `TOO_LARGE` refer to."""
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
    responses["TOO_LARGE"] = _error(
        StatusCode.INVALID_ARGUMENT, f"The body is larger than {BODY.value:,} bytes."
    )
    responses["INVALID_ARGUMENT"]["content"]["text/plain"] = {}
    return {"schemas": {"Error": error}, "responses": responses}


def _error(code: StatusCode, description: str) -> Schema:
    schema = {"$ref": "#/components/schemas/Error", "properties": {"code": {"const": code.name}}}
    return json_answer(description, schema)
