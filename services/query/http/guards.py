"""What every HTTP request passes: errors and metrics, the DNS rebinding check, the CSRF check."""

import json
import math
import time
from collections.abc import Iterable
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from grpc import StatusCode
from prometheus_client import Histogram

from passerby import tracing
from services.query.doors import Doors
from services.query.http.bodies import BodyRefused, Encoded, is_image
from services.query.http.connections import headers_came
from services.query.http.hosts import AllowedHosts
from services.runtime.errors import HTTP_STATUS, Forbidden, InvalidRequest, ServiceError

log = structlog.get_logger()


HTTP_SECONDS = Histogram("passerby_http_seconds", "Time to answer.", ["method", "route", "status"])

# aiohttp's own refusals that have a gRPC status; all others are the caller's fault.
_CODES: dict[int, StatusCode] = {status: code for code, status in HTTP_STATUS.items()}


def guards(doors: Doors, hosts: AllowedHosts) -> list[Middleware]:
    """The middlewares, outermost first."""

    @web.middleware
    async def limit_rate(request: web.Request, handler: Handler) -> web.StreamResponse:
        """A page has as many images as hits: they are not counted, nor are its own files."""
        if request.path.startswith("/v1/") and not request.path.startswith("/v1/images/"):
            doors.count(request)
        return await handler(request)

    @web.middleware
    async def reject_dns_rebinding(request: web.Request, handler: Handler) -> web.StreamResponse:
        """A request without the header is of no browser."""
        for host in request.headers.getall("Host", []):
            if not hosts.allows(host):
                raise Forbidden(
                    f"Host {host[:200]!a} is not a name of this server: call it by its address or "
                    "as localhost, or name it in QUERY_ALLOWED_HOSTS (in the chart: "
                    "query.allowedHosts)"
                )
        return await handler(request)

    return [
        headers_came,
        errors_and_metrics,
        limit_rate,
        reject_encoded,
        reject_dns_rebinding,
        reject_csrf,
    ]


def measure_from_the_start(routes: Iterable[web.AbstractRoute]) -> None:
    """Has every status of ours counted from 0, but for the page's files and the probes: of a series
    that begins with its first event `rate` misses that one."""
    for route in routes:
        path = _path(route.resource)
        if path.startswith("/v1/"):
            for status in (HTTPStatus.OK, *HTTP_STATUS.values()):
                HTTP_SECONDS.labels(route.method, path, str(status.value))


@web.middleware
async def errors_and_metrics(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns exceptions into `{code, message}`; measures, logs and traces every request."""
    route = _route(request)
    if not (tracing.is_on() and route.startswith("/v1/")):  # not the page's files, nor probes
        return await _answered(request, handler, None)
    attributes = {
        "http.request.method": request.method,
        "url.scheme": request.scheme,
        "url.path": route,  # as it came it may hold a filename
    }
    with tracing.entry(f"{request.method} {route}", "server", request.headers, attributes) as span:
        return await _answered(request, handler, span)


async def _answered(
    request: web.Request, handler: Handler, span: "tracing.Span | None"
) -> web.StreamResponse:
    start = time.perf_counter()
    try:
        response = await handler(request)
    except ServiceError as error:
        status = error.http_status or HTTP_STATUS[error.status]
        response = _error(error.status, error.public, status)
        if error.retry_after_s is not None:
            response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
        if isinstance(error, BodyRefused):
            response.force_close()
    except web.HTTPException as error:
        response = _http_error(request, error)
    except Exception:  # the last line of defence: the neighbours' requests go on
        log.exception("request_failed", method=request.method, route=_route(request))
        response = _error(
            StatusCode.INTERNAL,
            "unexpected error; the service's log has the details",
            HTTP_STATUS[StatusCode.INTERNAL],
        )
    seconds = time.perf_counter() - start
    tracing.answered_http(span, _route(request), response.status)
    HTTP_SECONDS.labels(request.method, _route(request), str(response.status)).observe(
        seconds, tracing.exemplar()
    )
    log.debug(
        "answered",
        method=request.method,
        route=_route(request),
        status=response.status,
        took_ms=round(1000 * seconds, 1),
    )
    return response


@web.middleware
async def reject_encoded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keeps out bodies that a few bytes could make large: nothing here needs to be compressed."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Encoded(f"Content-Encoding: {encoding[:50]!a} is not taken; send the body as it is")
    return await handler(request)


async def set_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """aiohttp calls it before each answer's headers are sent."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    # It would say which versions are at work here.
    response.headers.popall("Server", None)


@web.middleware
async def reject_csrf(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keeps other sites from searching or deleting through the browser of somebody who may
    (cross-site request forgery, CSRF).

    Browsers send JSON or an image to another site only if that site agrees (a CORS preflight),
    and this server never does.
    """
    if (
        request.method == "POST"
        and request.match_info.http_exception is None  # else there is nothing to protect
        and "Origin" in request.headers
        and request.content_type != "application/json"
        and not is_image(request)
    ):
        raise InvalidRequest(
            "a request from a browser needs the header Content-Type: application/json, or that of "
            "the image which is its body (image/jpeg)"
        )
    return await handler(request)


def _http_error(request: web.Request, error: web.HTTPException) -> web.Response:
    """aiohttp's own refusals, in the form of all others."""
    match error.status:
        case HTTPStatus.NOT_FOUND:
            message = f"there is nothing at {request.path[:200]}"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = error.headers.get("Allow", "another method")
            message = f"{request.path[:200]} accepts {allowed}, not {request.method}"
        case _:
            message = error.reason
    code = _CODES.get(error.status, StatusCode.INVALID_ARGUMENT)
    response = _error(code, message, error.status)
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _route(request: web.Request) -> str:
    """The path's pattern: few values for measurements, and no filename in a log."""
    return _path(request.match_info.route.resource)


def _path(resource: web.AbstractResource | None) -> str:
    return resource.canonical if resource else "unknown"


def _error(code: StatusCode, message: str, status: int) -> web.Response:
    return json_response({"code": code.name, "message": message}, status)


def json_response(fields: object, status: int = HTTPStatus.OK) -> web.Response:
    """Text as it is, not escaped to ASCII."""
    return web.json_response(fields, status=status, dumps=_dumps)


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
