"""Where an image's uri may point: only below the roots that the operator allowed."""

import asyncio
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec

from services.indexer.entries import Refused
from services.runtime.errors import Unavailable
from services.runtime.health import first_line

_THREADS = 16


@dataclass(frozen=True)
class _Root:
    """prefix: what a path (of a folder) or a URL (of anything else) must start with."""

    local: bool
    prefix: str
    files: Any


class Sources:
    """Reads images by uri, at most `max_bytes` of each within about `timeout_s`."""

    def __init__(self, roots: Iterable[str], max_bytes: int, timeout_s: float = 30) -> None:
        """roots: absolute folders or fsspec URLs; ValueError or ImportError: fsspec knows no such
        file system, or its package is missing."""
        self._roots = [_root(root) for root in roots]
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        # Threads of its own: a storage that hangs must not stop other work.
        self._threads = ThreadPoolExecutor(_THREADS, "sources")

    async def read(self, uri: str) -> bytes:
        """The file. Raises Refused if uri or file are at fault, Unavailable if the storage is."""
        root, path = self.locate(uri)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                data = await loop.run_in_executor(self._threads, self._read, root, path)
        except Refused:
            raise
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise Refused(f"{uri}: there is no such file") from None
        except PermissionError:
            raise Refused(f"{uri}: the indexer has no permission to read it") from None
        except TimeoutError:
            raise Unavailable(f"{uri} could not be read within {self._timeout_s} s") from None
        except Exception as error:  # each file system has its own
            raise Unavailable(f"{uri} cannot be read at the moment: {first_line(error)}") from error
        if len(data) > self._max_bytes:
            raise Refused(f"{uri}: more than {self._max_bytes:,} bytes; scale the image down")
        return data

    def locate(self, uri: str) -> tuple[_Root, str]:
        """The root that allows the uri, and what to open in it; Refused if there is none."""
        # fsspec chains file systems with `::`, and the first would speak for the others.
        if "\0" not in uri and "::" not in uri:
            local = _local_path(uri)
            place = _normalised(uri) if local is None else local
            for root in self._roots:
                if root.local == (local is not None) and place.startswith(root.prefix):
                    return root, place
        raise Refused(
            f"{uri[:200]}: not allowed; a uri must lie below a root in INDEXER_ALLOWED_ROOTS"
            + ("" if self._roots else ", which is empty")
        )

    def _read(self, root: _Root, path: str) -> bytes:
        # Opening a pipe or a device would block the thread for ever.
        if root.local and Path(path).exists() and not Path(path).is_file():
            raise Refused(f"{path}: is no regular file")
        with root.files.open(path, "rb") as file:
            data: bytes = file.read(self._max_bytes + 1)
        return data


def _root(root: str) -> _Root:
    local = _local_path(root)
    place = _normalised(root) if local is None else local
    if not place:
        raise ValueError(f"{root!r} is no absolute folder and no URL of one")
    files, _ = fsspec.url_to_fs("file:///" if local else place)
    return _Root(local is not None, f"{place.rstrip('/')}/", files)


def _local_path(uri: str) -> str | None:
    """The file that an absolute path or a file:// URL means, links followed; empty if it means
    none, None if the uri is of another kind."""
    scheme, separator, rest = uri.partition("://")
    if separator and scheme.lower() not in ("file", "local"):
        return None
    if separator:
        parts = urlsplit(f"//{rest}")
        uri = unquote(parts.path) if parts.netloc in ("", "localhost") else ""
    return os.path.realpath(uri) if uri.startswith("/") and "\0" not in uri else ""


def _normalised(url: str) -> str:
    """The URL with its scheme in lower case; empty if any reader could see a `..` in it."""
    scheme, _, rest = url.partition("://")
    decoded, before = rest, ""
    while decoded != before:
        if ".." in decoded.replace("\\", "/").split("/"):
            return ""
        before, decoded = decoded, unquote(decoded)
    return f"{scheme.lower()}://{rest}"
