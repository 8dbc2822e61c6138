"""The static page, and the kept images that it shows."""

import hashlib
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote

from aiohttp import web

from services.query import galleries
from services.query.http.media import image_type
from services.query.stores import Stores
from services.runtime.errors import InvalidRequest

WEB = Path(__file__).parents[1] / "web"

_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # An address holds the caption.
    "Referrer-Policy": "no-referrer",
    # A new version's page must not meet an old version's script.
    "Cache-Control": "no-cache",
}
_IMAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, max-age=60",
}


class Page:
    """The files of web/ at the root, kept images under /v1/images/."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self.routes = [
            web.get("/v1/images/{gallery}/{filename:(?s:.+)}", self._image),
            web.get("/", _file),
            web.get("/{file:[a-z]+\\.(?:css|js|svg)}", _file),
        ]

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


async def _file(request: web.Request) -> web.StreamResponse:
    file = WEB / request.match_info.get("file", "index.html")
    if not file.is_file():
        raise web.HTTPNotFound
    return web.FileResponse(file, headers=_PAGE_HEADERS)
