"""The Search service as JSON under /v1/: bodies are protobuf's messages in their JSON mapping."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

from aiohttp import web
from google.protobuf import json_format
from google.protobuf.message import Message

from passerby.v1 import search_pb2
from services.query import galleries
from services.query.doors import Doors
from services.query.gallery_deletion import delete_gallery
from services.query.http.bodies import Bodies, is_image
from services.query.http.guards import json_response
from services.query.missing import find_missing
from services.query.search import search
from services.query.stores import Stores
from services.runtime.embedder_client import EmbedderClient
from services.runtime.errors import InvalidRequest

M = TypeVar("M", bound=Message)

# Made by `make proto`.
OPENAPI = Path(__file__).with_name("openapi.json")
# Of a search by the image that is the body: fields of the request that the address holds.
IN_THE_ADDRESS = ("gallery", "topK", "offset", "filter", "explain")


class Api:
    """Each answer has `timeout_s`."""

    def __init__(
        self,
        stores: Stores,
        embedder: EmbedderClient,
        timeout_s: float,
        bodies: Bodies,
        doors: Doors,
    ) -> None:
        self._stores = stores
        self._embedder = embedder
        self._timeout_s = timeout_s
        self._bodies = bodies
        self._doors = doors
        self.routes = [
            web.post("/v1/search", self._search),
            web.post("/v1/delete", self._delete),
            web.post("/v1/find-missing", self._find_missing),
            web.get("/v1/galleries", self._list_galleries),
            web.get("/v1/galleries/{gallery}", self._get_gallery),
            web.delete("/v1/galleries/{gallery}", self._delete_gallery),
            web.get("/v1/openapi.json", _openapi),
        ]

    async def _search(self, request: web.Request) -> web.Response:
        async with self._search_request(request) as message:
            with self._doors.http_call(request):
                answer = await search(message, self._stores, self._embedder, self._timeout_s)
        return _answer(answer)

    @contextlib.asynccontextmanager
    async def _search_request(
        self, request: web.Request
    ) -> AsyncIterator[search_pb2.SearchRequest]:
        if not is_image(request):
            yield await self._body(request, search_pb2.SearchRequest())
            return
        message = _parsed(_fields_of_address(request), search_pb2.SearchRequest(), "address")
        async with self._bodies.image(request) as image:
            message.image = image
            yield message

    async def _body(self, request: web.Request, message: M) -> M:
        return _parsed(await self._bodies.json(request), message, "body")

    async def _delete(self, request: web.Request) -> web.Response:
        message = await self._body(request, search_pb2.DeleteRequest())
        with self._doors.http_call(request):
            return _answer(await galleries.delete(message, self._stores))

    async def _find_missing(self, request: web.Request) -> web.Response:
        message = await self._body(request, search_pb2.FindMissingRequest())
        with self._doors.http_call(request):
            answer = await find_missing(message, self._stores, self._embedder, self._timeout_s)
        return _answer(answer)

    async def _list_galleries(self, request: web.Request) -> web.Response:
        with self._doors.http_call(request):
            return _answer(await galleries.list_galleries(self._stores, self._timeout_s))

    async def _get_gallery(self, request: web.Request) -> web.Response:
        message = search_pb2.GetGalleryRequest(gallery=request.match_info["gallery"])
        with self._doors.http_call(request):
            return _answer(await galleries.get_gallery(message, self._stores, self._timeout_s))

    async def _delete_gallery(self, request: web.Request) -> web.Response:
        message = search_pb2.DeleteGalleryRequest(gallery=request.match_info["gallery"])
        with self._doors.http_call(request):
            return _answer(await delete_gallery(message, self._stores))


async def _openapi(request: web.Request) -> web.StreamResponse:  # noqa: ARG001 - aiohttp's signature
    return web.FileResponse(OPENAPI, headers={"Cache-Control": "no-cache"})


def _fields_of_address(request: web.Request) -> bytes:
    """As JSON."""
    fields = dict(request.query)
    for name in fields.keys() - set(IN_THE_ADDRESS):
        raise InvalidRequest(
            f"{name[:50]!a} in the address is not one of {', '.join(IN_THE_ADDRESS)}"
        )
    return json.dumps({name: _value(name, text) for name, text in fields.items()}).encode()


def _value(name: str, text: str) -> object:
    if name == "gallery":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest(f"{name}: {text[:50]!a} in the address is not JSON") from None


def _parsed(body: bytes, message: M, where: str) -> M:
    try:
        return json_format.Parse(body, message)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(
            f"the {where} is not a {message.DESCRIPTOR.full_name} in JSON: {str(error)[:500]}"
        ) from None


def _answer(message: Message) -> web.Response:
    return json_response(
        json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    )
