"""Holds what the HTTP server answers against its own OpenAPI document."""

import copy
import json
import re
from email.message import Message
from typing import Any

from openapi_schema_validator import OAS31Validator, oas31_format_checker

from services.query.http.api import OPENAPI

DOCUMENT: dict[str, Any] = json.loads(OPENAPI.read_text())

# A field that the document does not have may come with a later version, but not with this one.
_CLOSED = copy.deepcopy(DOCUMENT["components"])
for _schema in _CLOSED["schemas"].values():
    _schema["additionalProperties"] = False


def operation(method: str, path: str) -> dict[str, Any] | None:
    """What the document says of a request; None for what it leaves out, for example the page."""
    for template, operations in DOCUMENT["paths"].items():
        pattern = re.escape(template).replace(r"\{gallery\}", "[^/]*")
        pattern = pattern.replace(r"\{filename\}", ".+")
        if re.fullmatch(pattern, path.partition("?")[0]):
            found: dict[str, Any] | None = operations.get(method.lower())
            return found
    return None


def validator(schema: dict[str, Any]) -> OAS31Validator:
    """Validates values by a schema of the document, in which references are resolved."""
    complete = {**schema, "components": _CLOSED}
    return OAS31Validator(complete, format_checker=oas31_format_checker)


def check(method: str, path: str, status: int, body: bytes, headers: Message) -> None:
    """Fails unless the answer is one that the document promises to this request."""
    described = operation(method, path)
    if described is None:
        if status >= 400:
            validator({"$ref": "#/components/schemas/Error"}).validate(json.loads(body))
        return
    assert str(status) in described["responses"], f"{method} {path}: {status} is not documented"
    response = described["responses"][str(status)]
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    assert set(response.get("headers", {})) <= set(headers)
    content = response.get("content", {})
    media_type = headers.get_content_type()
    if "application/json" in content:
        assert media_type == "application/json"
        validator(content["application/json"]["schema"]).validate(json.loads(body))
    elif content:
        assert media_type in content or f"{headers.get_content_maintype()}/*" in content
    else:
        assert body == b""
