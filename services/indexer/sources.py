"""Where an image's uri may point: only below the roots that the operator allowed."""

import asyncio
import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec

from services.indexer.entries import InvalidImageEntry
from services.runtime.errors import Unavailable, first_line
from services.runtime.threads import Threads

READS_AT_ONCE = 16
_HTTP = ("http://", "https://")
_NO_SUCH_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
# A name that no file can have, and links that go round in circles.
_BAD_NAME = {errno.ENAMETOOLONG, errno.ELOOP}
# HTTP's "request timeout" and "too many requests".
_MAY_PASS = {408, 429}


@dataclass
class ReadBudget:
    """How many more bytes may be read together; the last file may exceed it."""

    left: int


@dataclass(frozen=True)
class _Root:
    """prefix: what a path (of a folder) or a URL (of anything else) must start with; written: the
    same before links are followed."""

    local: bool
    prefix: str
    written: str
    files: Any
    threads: Threads


class Sources:
    """Reads images by uri, at most `max_bytes` of each within about `timeout_s`."""

    def __init__(self, roots: Iterable[str], max_bytes: int, timeout_s: float = 30) -> None:
        """roots: absolute folders or fsspec URLs. Raises ValueError or ImportError if fsspec does
        not know the file system, or its package is missing."""
        self._roots = [_root(root, self.locate) for root in roots]
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._elsewhere = _threads()

    async def read(
        self, uri: str, budget: ReadBudget | None = None, *, even_if_spent: bool = False
    ) -> bytes | None:
        """The file; None if the budget is spent when its turn to be read comes.

        Raises InvalidImageEntry if uri or file are at fault, Unavailable if the storage is.
        """

        def read() -> bytes | None:
            if budget and budget.left <= 0 and not even_if_spent:
                return None
            return self._read(uri)

        try:
            async with asyncio.timeout(self._timeout_s):
                data = await self._threads(uri).run(read)
        except InvalidImageEntry:
            raise
        except TimeoutError:
            raise Unavailable(f"{uri} could not be read within {self._timeout_s} s") from None
        except Exception as error:  # each file system has its own
            if fault := _fault(uri, error):
                raise InvalidImageEntry(f"{uri[:200]}: {fault}") from None
            raise Unavailable(f"{uri} cannot be read at the moment: {first_line(error)}") from error
        if data is None:
            return None
        if len(data) > self._max_bytes:
            raise InvalidImageEntry(
                f"{uri}: more than {self._max_bytes:,} bytes; scale the image down"
            )
        if budget:
            budget.left -= len(data)
        return data

    def locate(self, uri: str) -> tuple[_Root, str]:
        """The root that allows the uri, and what to open in it. Raises InvalidImageEntry if none
        does. Blocks while links are followed."""
        # fsspec chains file systems with `::`, and the first would speak for the others.
        if "\0" not in uri and "::" not in uri:
            local = _local_path(uri)
            place = _normalised(uri) if local is None else _followed(local)
            for root in self._roots:
                if root.local == (local is not None) and place.startswith(root.prefix):
                    return root, place
        raise InvalidImageEntry(
            f"{uri[:200]}: not allowed; a uri must lie below a root in INDEXER_ALLOWED_ROOTS"
            + ("" if self._roots else ", which is empty")
        )

    def _threads(self, uri: str) -> Threads:
        """Those of the root that the uri names, before its links are followed."""
        local = _local_path(uri)
        place = _normalised(uri) if local is None else os.path.normpath(local)
        for root in self._roots:
            if place.startswith((root.written, root.prefix)):
                return root.threads
        return self._elsewhere

    def _read(self, uri: str) -> bytes:
        root, path = self.locate(uri)
        # Opening a pipe or a device would block the thread for ever.
        if root.local and Path(path).exists() and not Path(path).is_file():
            raise InvalidImageEntry(f"{path}: is not a regular file")
        with root.files.open(path, "rb") as file:
            data: bytes = file.read(self._max_bytes + 1)
        return data


def _threads() -> Threads:
    """For one storage: when it hangs, neither other work nor other storages stop."""
    return Threads(READS_AT_ONCE, "sources")


def _root(root: str, locate: Callable[[str], object]) -> _Root:
    """locate: raises InvalidImageEntry for a uri that is not allowed."""
    local = _local_path(root)
    place = _normalised(root) if local is None else _followed(local)
    if not place:
        raise ValueError(f"{root!r} is neither an absolute folder nor the URL of one")
    options = _checking_redirects(locate) if place.startswith(_HTTP) else {}
    files, _ = fsspec.url_to_fs("file:///" if local else place, **options)
    written = os.path.normpath(local) if local else place
    return _Root(
        local is not None,
        f"{place.rstrip('/')}/",
        f"{written.rstrip('/')}/",
        files,
        _threads(),
    )


def _checking_redirects(locate: Callable[[str], object]) -> dict[str, Any]:
    """Options of an HTTP file system with which a redirect is a uri like any other: followed to
    what is allowed, and nowhere else."""
    from aiohttp import ClientSession, TraceConfig, TraceRequestRedirectParams
    from yarl import URL

    async def check(_: ClientSession, __: object, redirect: TraceRequestRedirectParams) -> None:
        headers = redirect.response.headers
        to = redirect.response.url.join(URL(headers.get("Location") or headers.get("URI") or ""))
        try:
            locate(str(to))
        except InvalidImageEntry as error:
            raise InvalidImageEntry(f"it redirects to {error}") from None

    tracing = TraceConfig()
    tracing.on_request_redirect.append(check)
    return {"client_kwargs": {"trace_configs": [tracing]}, "skip_instance_cache": True}


def _fault(uri: str, error: Exception) -> str:
    """What is wrong with the file itself; empty if its storage is at fault, which may recover."""
    # fsspec takes whatever HTTP fails with for a missing file; the cause says what it was.
    cause = error.__cause__ if uri.lower().startswith(_HTTP) else None
    error = cause if isinstance(cause, Exception) else error
    if isinstance(error, InvalidImageEntry):
        return str(error)
    status = getattr(error, "status", None)
    if status == 404 or isinstance(error, _NO_SUCH_FILE):
        return "there is no such file"
    if isinstance(error, PermissionError):
        return "the indexer has no permission to read it"
    if isinstance(error, OSError):  # some of them are ValueErrors, too
        wrong = error.errno in _BAD_NAME
    elif isinstance(status, int):
        wrong = 400 <= status < 500 and status not in _MAY_PASS
    else:
        wrong = isinstance(error, ValueError)
    return f"it cannot be read: {first_line(error)}" if wrong else ""


def _followed(path: str) -> str:
    return os.path.realpath(path) if path else ""


def _local_path(uri: str) -> str | None:
    """The file that an absolute path or a file:// URL means; empty if it means none, None if the
    uri is of another kind."""
    scheme, separator, rest = uri.partition("://")
    if separator and scheme.lower() not in ("file", "local"):
        return None
    if separator:
        try:
            parts = urlsplit(f"//{rest}")
        except ValueError:  # brackets where a host would be
            return ""
        uri = unquote(parts.path) if parts.netloc in ("", "localhost") else ""
    return uri if uri.startswith("/") and "\0" not in uri else ""


def _normalised(url: str) -> str:
    """The URL with its scheme in lower case; empty if any reader could see a `..` in it."""
    scheme, _, rest = url.partition("://")
    decoded, before = rest, ""
    while decoded != before:
        if ".." in decoded.replace("\\", "/").split("/"):
            return ""
        before, decoded = decoded, unquote(decoded)
    return f"{scheme.lower()}://{rest}"
