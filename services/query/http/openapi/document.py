"""The OpenAPI 3.1 document: proto/'s RPCs under their HTTP paths, kept images, and the probes."""

from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc import StatusCode

from passerby.contract import GALLERY_NAME, GALLERY_RULE
from services.query.http.openapi.responses import OF_BODIES, components, errors, json_answer
from services.query.http.openapi.rules import EXAMPLES, FILENAME, RULES
from services.query.http.openapi.schemas import Schema, comments, reference, schemas

_DESCRIPTION = (
    "Finds images of people by a caption, by an image, or by an image of the gallery. Bodies are "
    "the messages of `passerby.v1` in protobuf's JSON mapping: fields are named in lowerCamelCase "
    "(requests may use the names of the .proto files too), 64-bit integers are strings, bytes "
    "are base64; a field that is null counts as left out. An image to search by may be the body "
    "itself, with its Content-Type; the other fields are then parameters of the address. The same "
    "service is on gRPC."
)
# Errors of any request to the stores, of those that name something, of those that need a vector.
_ANY = (
    StatusCode.PERMISSION_DENIED,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.INTERNAL,
    StatusCode.UNAVAILABLE,
)
_ASKING = (StatusCode.INVALID_ARGUMENT, *_ANY)
_NAMING = (StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND, *_ANY)
_EMBEDDING = (StatusCode.FAILED_PRECONDITION, *_NAMING)
# RPC -> method, path and errors; those with examples have a body.
_RPCS = {
    "Search": ("post", "/v1/search", _EMBEDDING),
    "Delete": ("post", "/v1/delete", _NAMING),
    "FindMissing": ("post", "/v1/find-missing", _ASKING),
    "ListGalleries": ("get", "/v1/galleries", _ANY),
    "GetGallery": ("get", "/v1/galleries/{gallery}", _NAMING),
    "DeleteGallery": ("delete", "/v1/galleries/{gallery}", _NAMING),
}


# Of a search by the image that is the body: fields of the request that the address holds.
_BY_IMAGE = ("gallery", "topK", "offset", "filter", "explain")


def document(files: FileDescriptorSet) -> dict[str, Any]:
    """files: search.proto with its imports and comments."""
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file)
    methods = pool.FindServiceByName("passerby.v1.Search").methods_by_name
    descriptions = comments(files)
    messages = schemas(
        [methods[rpc].input_type for rpc in EXAMPLES],
        [method.output_type for method in methods.values()],
        descriptions,
        RULES,
    )
    paths: dict[str, Schema] = {}
    for rpc, (verb, path, codes) in _RPCS.items():
        description = descriptions[methods[rpc].full_name]
        operation = _operation(methods[rpc], description, path, codes)
        paths.setdefault(path, {})[verb] = operation
    shared = components()
    return {
        "openapi": "3.1.0",
        "info": {"title": "Passerby", "version": "v1", "description": _DESCRIPTION},
        "paths": {**paths, **_image(), **_probes()},
        "components": {**shared, "schemas": {**messages, **shared["schemas"]}},
    }


def _operation(
    method: MethodDescriptor, description: str, path: str, codes: tuple[StatusCode, ...]
) -> Schema:
    operation: Schema = {
        "operationId": method.name,
        "summary": description.partition(". ")[0].removesuffix("."),
        "description": description,
        "responses": {
            "200": json_answer("The answer.", reference(method.output_type)),
            **errors(*codes),
        },
    }
    if "{gallery}" in path:
        operation["parameters"] = [_gallery()]
    if method.name in EXAMPLES:
        examples = {
            name: {"value": json_format.MessageToDict(request)}
            for name, request in EXAMPLES[method.name].items()
        }
        body = {"schema": reference(method.input_type), "examples": examples}
        content: Schema = {"application/json": body}
        if method.name == "Search":
            content["image/*"] = {}
            operation["parameters"] = [_in_address(method.input_type, name) for name in _BY_IMAGE]
        operation["requestBody"] = {"required": True, "content": content}
        operation["responses"] |= OF_BODIES
    return operation


def _in_address(message: Descriptor, field: str) -> Schema:
    """A field of a search whose body is the image."""
    described = {"name": field, "in": "query", "description": "With an image as the body."}
    schema = reference(message)["$ref"] + f"/properties/{field}"
    if field == "filter":
        return {**described, "content": {"application/json": {"schema": {"$ref": schema}}}}
    return {**described, "schema": {"$ref": schema}}


def _image() -> Schema:
    filename = _parameter(
        "filename", "Percent-encoded; its slashes may stand as they are.", FILENAME
    )
    headers = {"ETag": {"schema": {"type": "string"}}}
    operation = {
        "operationId": "GetImage",
        "summary": "A kept image, as it was pushed",
        "description": "NOT_FOUND also where the operator keeps no images.",
        "parameters": [
            _gallery(),
            filename,
            {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}},
        ],
        "responses": {
            "200": {
                "description": "The bytes; application/octet-stream if no browser may show them.",
                "headers": headers,
                "content": {"image/*": {}, "application/octet-stream": {}},
            },
            "304": {"description": "Unchanged since this ETag.", "headers": headers},
            **errors(*_NAMING),
        },
    }
    return {"/v1/images/{gallery}/{filename}": {"get": operation}}


def _probes() -> Schema:
    forbidden = errors(StatusCode.PERMISSION_DENIED)
    live = _object(live={"const": True})
    ready = _object(ready={"type": "boolean"})
    return {
        "/healthz": {
            "get": {
                "operationId": "Live",
                "summary": "Whether the process answers",
                "responses": {"200": json_answer("It does.", live), **forbidden},
            }
        },
        "/readyz": {
            "get": {
                "operationId": "Ready",
                "summary": "Whether searches can be answered",
                "responses": {
                    "200": json_answer("They can.", ready),
                    "503": json_answer("They cannot.", ready),
                    **forbidden,
                },
            }
        },
    }


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _gallery() -> Schema:
    return _parameter("gallery", f"{GALLERY_RULE}.", {"pattern": f"^{GALLERY_NAME.pattern}$"})


def _parameter(name: str, description: str, rule: Schema) -> Schema:
    schema = {"type": "string", **rule}
    described = {"name": name, "in": "path", "required": True, "description": description}
    return {**described, "schema": schema}
