"""The OpenAPI document: valid, complete, and true of the server that runs.

What the server answers is held against the document in each test that calls it
(tests/support/openapi.py).
"""

import json
from typing import Any, cast

import pytest
from google.protobuf import json_format
from openapi_spec_validator import OpenAPIV31SpecValidator

from passerby.v1 import search_pb2
from services.query.doors import Doors
from services.query.held import Held
from services.query.http.app import make_app
from services.query.http.openapi.rules import RULES
from services.query.settings import QuerySettings
from tests.support.openapi import DOCUMENT, validator
from tests.support.query import QueryService, people

REQUESTS = {
    "/v1/search": search_pb2.SearchRequest,
    "/v1/delete": search_pb2.DeleteRequest,
    "/v1/find-missing": search_pb2.FindMissingRequest,
}
Body = dict[str, Any]
MAN: Body = {"caption": "a man"}
RIGHT: dict[str, list[Body]] = {
    "/v1/search": [
        MAN,
        {"caption": "a man" + " " * 1995},
        {**MAN, "topK": 1, "offset": 16_383, "explain": True},
        {**MAN, "filter": {"capturedFrom": "2026-01-31T08:00:00+01:00", "tags": {"floor": ""}}},
        {"filename": "0.jpg"},
    ],
    "/v1/delete": [
        {"filenames": ["none.jpg"]},
        {"filter": {"cameras": ["nowhere"]}},
    ],
    "/v1/find-missing": [
        {},
        {"images": [{"filename": "0.jpg", "digest": "AA=="}]},
    ],
}
WRONG: dict[str, list[Body]] = {
    "/v1/search": [
        {},
        {**MAN, "filename": "0.jpg"},
        {"caption": " \n\t"},
        {"caption": "a man" + " " * 1996},
        {"filename": ""},
        {"filename": "x" * 4097},
        {"image": ""},
        {"image": "%%%"},
        {**MAN, "gallery": "No Gallery"},
        {**MAN, "topK": 0},
        {**MAN, "topK": 1001},
        {**MAN, "topK": "many"},
        {**MAN, "offset": -1},
        {**MAN, "offset": 16_384},
        {**MAN, "top": 1},
        {**MAN, "filter": {"capturedFrom": "yesterday"}},
        {**MAN, "filter": {"tags": {"": "1"}}},
        {**MAN, "filter": {"cameras": "gate"}},
    ],
    "/v1/delete": [
        {},
        {"filenames": []},
        {"filenames": [""]},
        {"filenames": ["x"] * 10_001},
        {"filenames": ["x"], "filter": {"cameras": ["x"]}},
        {"filter": {}},
        {"filter": {"cameras": [], "tags": {}}},
    ],
    "/v1/find-missing": [
        {"gallery": "No Gallery"},
        {"images": [{"filename": "", "digest": "AA=="}]},
        {"images": [{"filename": "0.jpg"}]},
        {"images": [{"filename": "0.jpg", "digest": "A" * 92}]},
        {"images": [{"filename": "x", "digest": "AA=="}] * 10_001},
    ],
}


def request_schema(path: str) -> dict[str, Any]:
    body = DOCUMENT["paths"][path]["post"]["requestBody"]
    schema: dict[str, Any] = body["content"]["application/json"]["schema"]
    return schema


def examples() -> list[tuple[str, dict[str, Any]]]:
    return [
        (path, example["value"])
        for path in REQUESTS
        for example in DOCUMENT["paths"][path]["post"]["requestBody"]["content"][
            "application/json"
        ]["examples"].values()
    ]


def test_the_document_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_the_server_serves_the_document(service: QueryService) -> None:
    status, body, headers = service.get("/v1/openapi.json")
    assert (status, json.loads(body)) == (200, DOCUMENT)
    assert headers["Content-Type"] == "application/json"


def test_every_route_is_documented() -> None:
    # Its parts are only kept, and called by no route that is merely listed.
    nothing = cast(Any, None)
    settings = QuerySettings()
    app = make_app(nothing, nothing, nothing, Held(), Doors(settings), settings)
    routes = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource and route.method != "HEAD"
    }
    documented = {
        (method.upper(), path)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
    }
    assert documented == {
        (method, path)
        for method, path in routes
        if path in ("/healthz", "/readyz") or path.startswith("/v1/")
    } - {("GET", "/v1/openapi.json")}


def test_each_rule_is_of_a_message_or_field_that_exists() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    fields = {
        f"{name}.{field}" for name, schema in schemas.items() for field in schema["properties"]
    }
    assert RULES.keys() <= schemas.keys() | fields


@pytest.mark.parametrize(("path", "example"), examples())
def test_an_example_is_answered(
    path: str, example: dict[str, Any], service: QueryService, gallery: str
) -> None:
    message = json_format.ParseDict(example, REQUESTS[path]())
    assert json_format.MessageToDict(message) == example
    validator(request_schema(path)).validate(example)
    service.fill(gallery, people(1, "gate/"), camera="gate")
    service.fill(gallery, {"gate/1.jpg": people(1)["0.jpg"]}, camera="gate")
    status, answer = service.post(path, {**example, "gallery": gallery})
    assert status == 200, answer


def each(cases: dict[str, list[Body]]) -> pytest.MarkDecorator:
    listed = [(path, body) for path, bodies in cases.items() for body in bodies]
    return pytest.mark.parametrize(("path", "body"), listed, ids=lambda value: str(value)[:50])


@each(RIGHT)
def test_a_right_request_is_right_for_document_and_server(
    path: str, body: Body, service: QueryService
) -> None:
    service.fill("openapi", people(1))
    body = {"gallery": "openapi", **body}
    validator(request_schema(path)).validate(body)
    status, answer = service.post(path, body)
    assert status == 200, answer


@each(WRONG)
def test_a_wrong_request_is_wrong_for_document_and_server(
    path: str, body: Body, service: QueryService
) -> None:
    body = {"gallery": "openapi", **body}
    assert not validator(request_schema(path)).is_valid(body)
    # Lists that are too long are too large as well.
    assert service.post(path, body)[0] == 413 if len(str(body)) > 65_536 else 400
