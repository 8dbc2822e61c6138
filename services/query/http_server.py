"""The Search service over HTTP: protobuf's JSON mapping under /v1/, images, the page, probes."""

import asyncio
import hashlib
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import structlog
from aiohttp import web
from google.protobuf import json_format
from google.protobuf.message import Message
from grpc import StatusCode
from prometheus_client import CONTENT_TYPE_LATEST, Histogram, generate_latest

from passerby.v1 import search_pb2
from services.query import galleries
from services.query.media import image_type
from services.query.search import search
from services.query.stores import Stores
from services.runtime.embedder_client import EmbedderClient
from services.runtime.errors import HTTP_STATUS, InvalidRequest, ServiceError
from services.runtime.health import Health

log = structlog.get_logger()

M = TypeVar("M", bound=Message)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

WEB = Path(__file__).parent / "web"
# A photograph of 24 MB in base64.
MAX_BODY_BYTES = 32 * 1024 * 1024
# A body beyond this would hold up other requests while it is parsed.
_SMALL_BODY_BYTES = 64 * 1024
# A filename of 4,096 bytes, each of them percent-encoded, and the rest of the address.
MAX_LINE_BYTES = 16 * 1024

HTTP_SECONDS = Histogram("passerby_http_seconds", "Time to answer.", ["method", "route", "status"])

_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # An address holds the caption.
    "Referrer-Policy": "no-referrer",
    # A new version's page shall not meet an old version's script.
    "Cache-Control": "no-cache",
}
_IMAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, max-age=60",
}


class HttpServer:
    """Each answer has `timeout_s`; `app` is ready to be run on `host`."""

    def __init__(
        self, stores: Stores, embedder: EmbedderClient, health: Health, timeout_s: float, host: str
    ) -> None:
        self._stores = stores
        self._embedder = embedder
        self._health = health
        self._timeout_s = timeout_s
        guards = [_answered, _called_by_its_name] if _is_loopback(host) else [_answered]
        self.app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=guards)
        self.app.add_routes(
            [
                web.post("/v1/search", self._search),
                web.post("/v1/delete", self._delete),
                web.get("/v1/galleries", self._list_galleries),
                web.get("/v1/galleries/{gallery}", self._get_gallery),
                web.get("/v1/images/{gallery}/{filename:(?s:.+)}", self._image),
                web.get("/healthz", self._live),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._metrics),
                web.get("/", self._page),
                web.get("/{file:[a-z]+\\.(?:css|js|svg)}", self._page),
            ]
        )

    async def _search(self, request: web.Request) -> web.Response:
        message = await _body(request, search_pb2.SearchRequest())
        return _json(await search(message, self._stores, self._embedder, self._timeout_s))

    async def _delete(self, request: web.Request) -> web.Response:
        message = await _body(request, search_pb2.DeleteRequest())
        return _json(await galleries.delete(message, self._stores))

    async def _list_galleries(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return _json(await galleries.list_galleries(self._stores, self._timeout_s))

    async def _get_gallery(self, request: web.Request) -> web.Response:
        message = search_pb2.GetGalleryRequest(gallery=request.match_info["gallery"])
        return _json(await galleries.get_gallery(message, self._stores, self._timeout_s))

    async def _image(self, request: web.Request) -> web.StreamResponse:
        # The address as it came: a filename is a name, in which `..` and `//` mean nothing.
        quoted = request.raw_path.partition("?")[0].removeprefix("/v1/images/")
        gallery, _, filename = quoted.partition("/")
        try:
            filename = unquote(filename, errors="strict")
        except UnicodeDecodeError:
            raise InvalidRequest("filename: is not percent-encoded UTF-8") from None
        data = await galleries.kept_image(self._stores, unquote(gallery), filename)
        etag = hashlib.blake2b(data, digest_size=16).hexdigest()
        headers = {**_IMAGE_HEADERS, "ETag": f'"{etag}"'}
        if any(tag.value in (etag, "*") for tag in request.if_none_match or ()):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        media_type = image_type(data)
        if media_type is None:
            headers["Content-Disposition"] = "attachment"
        headers["Content-Type"] = media_type or "application/octet-stream"
        return web.Response(body=data, headers=headers)

    async def _live(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.json_response({"live": True})

    async def _ready(self, request: web.Request) -> web.Response:  # noqa: ARG002
        problems = {name: problem for name, problem in self._health.problems.items() if problem}
        status = HTTPStatus.OK if self._health.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return web.json_response({"ready": self._health.ready, "problems": problems}, status=status)

    async def _metrics(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _page(self, request: web.Request) -> web.StreamResponse:
        file = WEB / request.match_info.get("file", "index.html")
        if not file.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(file, headers=_PAGE_HEADERS)


@web.middleware
async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns exceptions into `{code, message}`, guards and measures, for every request."""
    start = time.perf_counter()
    try:
        response = await handler(request)
    except ServiceError as error:
        response = _error(error.status.name, str(error), HTTP_STATUS[error.status])
    except web.HTTPException as error:
        response = _http_error(request, error)
    except Exception:  # the last line of defence: the neighbours' requests go on
        log.exception("request_failed", method=request.method, route=_route(request))
        response = _error(
            StatusCode.INTERNAL.name,
            "unexpected error; the service's log has it",
            HTTPStatus.INTERNAL_SERVER_ERROR,
        )
    response.headers["X-Content-Type-Options"] = "nosniff"
    seconds = time.perf_counter() - start
    status = str(response.status)
    HTTP_SECONDS.labels(request.method, _route(request), status).observe(seconds)
    log.debug(
        "answered",
        method=request.method,
        route=_route(request),
        status=response.status,
        took_ms=round(1000 * seconds, 1),
    )
    return response


@web.middleware
async def _called_by_its_name(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keeps websites out that had their own name resolve to this machine: to a browser their pages
    are then of the same origin as this server.
    """
    try:
        name = urlsplit(f"//{request.host}").hostname or ""
    except ValueError:  # a bracket too many
        name = ""
    if _is_loopback(name):
        return await handler(request)
    return _error(
        StatusCode.PERMISSION_DENIED.name,
        f"Host {request.host[:200]!a} does not name this server, which serves its own machine: "
        "ask localhost (a proxy has to send that as Host), or set QUERY_HOST to serve others",
        HTTPStatus.FORBIDDEN,
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _http_error(request: web.Request, error: web.HTTPException) -> web.Response:
    """aiohttp's own refusals, in the form of all others."""
    match error.status:
        case HTTPStatus.NOT_FOUND:
            code, message = "NOT_FOUND", f"there is nothing at {request.path[:200]}"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = error.headers.get("Allow", "another method")
            code = "UNIMPLEMENTED"
            message = f"{request.path[:200]} takes {allowed}, not {request.method}"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            code = "INVALID_ARGUMENT"
            message = f"the body is larger than {MAX_BODY_BYTES} bytes; send a smaller image"
        case _:
            code, message = "INVALID_ARGUMENT", error.reason
    response = _error(code, message, error.status)
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _route(request: web.Request) -> str:
    """The path's pattern: few values for measurements, and no filename in a log."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else "unknown"


async def _body(request: web.Request, message: M) -> M:
    """The request's body, read into the message."""
    # Browsers send JSON to a foreign address only after asking, which nobody answers here: so no
    # other site can search or delete through the browser of somebody who may.
    if "Origin" in request.headers and request.content_type != "application/json":
        raise InvalidRequest("a browser's request needs the header Content-Type: application/json")
    body = await request.read()
    try:
        if len(body) > _SMALL_BODY_BYTES:
            return await asyncio.to_thread(json_format.Parse, body, message)
        return json_format.Parse(body, message)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(
            f"the body is no {message.DESCRIPTOR.full_name} in JSON: {str(error)[:500]}"
        ) from None


def _json(message: Message) -> web.Response:
    fields = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    return web.json_response(fields, dumps=_dumps)


def _error(code: str, message: str, status: int) -> web.Response:
    return web.json_response({"code": code, "message": message}, status=status, dumps=_dumps)


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
