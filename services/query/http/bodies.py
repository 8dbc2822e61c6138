"""Bodies of requests: read only as far as their limits, and within their time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

from aiohttp import web

from passerby.limits import Limit
from services.query.held import Held
from services.runtime.errors import InvalidRequest

JSON = Limit("body in JSON", 64 * 1024, "bytes", "HTTP 413")
BODY_S = Limit("time for the body of a request", 60, "seconds", "HTTP 408")
LIMITS = (JSON, BODY_S)


class BodyRefused(InvalidRequest):
    """A body that is not read to its end: the connection ends with the answer."""


class TooLarge(BodyRefused):
    http_status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class TooSlow(BodyRefused):
    http_status = HTTPStatus.REQUEST_TIMEOUT


class Encoded(BodyRefused):
    http_status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class Bodies:
    """images: that are in hand; body_s: time for each body."""

    def __init__(self, images: Held, body_s: float = BODY_S.value) -> None:
        self._images = images
        self._body_s = body_s

    async def json(self, request: web.Request) -> bytes:
        return await self._read(request, JSON, lambda _size: None)

    @contextlib.asynccontextmanager
    async def image(self, request: web.Request) -> AsyncIterator[bytes]:
        """The image that is the whole body; it is held until the end of the context."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            self._images.take(size)
            taken += size

        try:
            yield await self._read(request, self._images.image, take)
        finally:
            self._images.give_back(taken)

    async def _read(self, request: web.Request, limit: Limit, take: Callable[[int], None]) -> bytes:
        """Raises TooLarge before it reads what is promised to be too large, and TooSlow.

        take: is told the size of each part as it comes.
        """
        _check_size(limit, request.content_length or 0)
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_s):
                async for part in request.content.iter_any():
                    _check_size(limit, len(body) + len(part))
                    take(len(part))
                    body += part
        except TimeoutError:
            raise TooSlow(BODY_S.at(self._body_s).exceeded()) from None
        return bytes(body)


def _check_size(limit: Limit, size: int) -> None:
    if size > limit.value:
        remedy = (
            "an image to search by may be the body itself, with its Content-Type (image/jpeg); "
            "split longer lists, or send them by gRPC"
            if limit is JSON
            else "scale it down"
        )
        raise TooLarge(f"{limit.exceeded(size)}; {remedy}")


def is_image(request: web.Request) -> bool:
    """Whether its body is an image by itself."""
    return request.content_type.startswith("image/")
