"""What the HTTP API asks of requests beyond their types, and an example of each kind."""

import base64

from google.protobuf.message import Message

from passerby.contract import (
    DEFAULT_GALLERY,
    DEFAULT_TOP_K,
    GALLERY_NAME,
    MAX_CAPTION_CHARACTERS,
    MAX_DIGEST_BYTES,
    MAX_FILENAME_BYTES,
    MAX_FILENAMES,
    MAX_TOP_K,
    MAX_WINDOW,
)
from passerby.v1 import search_pb2
from services.query.http.openapi.schemas import Schema, exactly_one

_GALLERY: Schema = {"default": DEFAULT_GALLERY, "pattern": f"^({GALLERY_NAME.pattern})?$"}
FILENAME: Schema = {"minLength": 1, "maxLength": MAX_FILENAME_BYTES}

# Message or field -> what validation.py and galleries.py ask of it, as far as JSON Schema can say.
RULES: dict[str, Schema] = {
    "SearchRequest.gallery": _GALLERY,
    "SearchRequest.caption": {"maxLength": MAX_CAPTION_CHARACTERS, "pattern": r"\S"},
    "SearchRequest.image": {"minLength": 1},
    "SearchRequest.filename": FILENAME,
    "SearchRequest.topK": {"minimum": 1, "maximum": MAX_TOP_K, "default": DEFAULT_TOP_K},
    "SearchRequest.offset": {"minimum": 0, "maximum": MAX_WINDOW - 1},
    "Filter.tags": {"propertyNames": {"minLength": 1}},
    "DeleteRequest": exactly_one("filenames", "filter"),
    "DeleteRequest.gallery": _GALLERY,
    "DeleteRequest.filenames": {
        "minItems": 1,
        "maxItems": MAX_FILENAMES,
        "items": {"type": "string", **FILENAME},
    },
    "DeleteRequest.filter": {
        "anyOf": [
            {"required": ["cameras"], "properties": {"cameras": {"minItems": 1}}},
            {"required": ["capturedFrom"]},
            {"required": ["capturedTo"]},
            {"required": ["tags"], "properties": {"tags": {"minProperties": 1}}},
        ]
    },
    "FindMissingRequest.gallery": _GALLERY,
    "FindMissingRequest.images": {"maxItems": MAX_FILENAMES},
    "ImageDigest": {"required": ["filename", "digest"]},
    "ImageDigest.filename": FILENAME,
    "ImageDigest.digest": {"minLength": 2, "maxLength": 4 * -(-MAX_DIGEST_BYTES // 3)},
    "Hit.score": {"minimum": -1, "maximum": 1},
}

# A red pixel.
_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
_AT_THE_GATE = search_pb2.Filter(cameras=["gate"])
# RPC -> name of an example -> request.
EXAMPLES: dict[str, dict[str, Message]] = {
    "Search": {
        "caption": search_pb2.SearchRequest(gallery="demo", caption="a man in a red jacket"),
        "image": search_pb2.SearchRequest(gallery="demo", image=_PNG, top_k=3),
        "filename": search_pb2.SearchRequest(
            gallery="demo", filename="gate/1.jpg", offset=12, filter=_AT_THE_GATE, explain=True
        ),
    },
    "FindMissing": {
        "image": search_pb2.FindMissingRequest(
            gallery="demo",
            images=[search_pb2.ImageDigest(filename="gate/1.jpg", digest=b"of this image")],
        ),
    },
    "Delete": {
        "filenames": search_pb2.DeleteRequest(gallery="demo", filenames=["gate/1.jpg"]),
        "filter": search_pb2.DeleteRequest(gallery="demo", filter=_AT_THE_GATE),
    },
}
