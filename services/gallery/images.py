"""The images that are kept for the page, on any file system that fsspec knows; off by default."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

import fsspec

from services.runtime.errors import Unavailable, first_line
from services.runtime.threads import Threads

T = TypeVar("T")

_CALLS_AT_ONCE = 16


class Images:
    """The encoded images by gallery and id: a filename never becomes a path.

    A store that cannot be reached raises Unavailable.
    """

    def __init__(self, uri: str, timeout_s: float = 30) -> None:
        """uri: an fsspec URL such as file:///var/lib/passerby or s3://bucket/people."""
        # Local folders have to be made; elsewhere a path is only a name.
        options = {"auto_mkdir": True} if uri.startswith("file://") else {}
        self._files, self._root = fsspec.url_to_fs(uri, **options)
        self._timeout_s = timeout_s
        self._threads = Threads(_CALLS_AT_ONCE, "images")

    async def put(self, gallery: str, images: Mapping[int, bytes]) -> None:
        """Keeps images (id -> encoded image), over what was there."""
        files = {self._path(gallery, id_): data for id_, data in images.items()}
        await self._in_thread(lambda: self._files.pipe(files))

    async def get(self, gallery: str, id_: int) -> bytes | None:
        """The encoded image, or None if it is not kept."""

        def read() -> bytes | None:
            try:
                data: bytes = self._files.cat_file(self._path(gallery, id_))
            except FileNotFoundError:
                return None
            return data

        return await self._in_thread(read)

    async def remove(self, gallery: str, ids: Iterable[int]) -> None:
        """Removes images; ids without an image are skipped."""

        def remove() -> None:
            for id_ in ids:
                try:
                    self._files.rm_file(self._path(gallery, id_))
                except FileNotFoundError:
                    continue

        await self._in_thread(remove)

    async def remove_gallery(self, gallery: str) -> AsyncIterator[None]:
        """Removes all images of a gallery, part by part, and yields after each."""
        folder = f"{self._root}/{gallery}"

        def parts() -> list[str]:
            self._files.invalidate_cache()
            try:
                return [str(part) for part in self._files.ls(folder, detail=False)]
            except FileNotFoundError:
                return []

        def remove(path: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm(path, recursive=True)

        # A folder, or a prefix of keys, of which there are 128.
        for part in await self._in_thread(parts):
            await self._in_thread(partial(remove, part))
            yield
        await self._in_thread(partial(remove, folder))

    def _path(self, gallery: str, id_: int) -> str:
        name = f"{id_:016x}"
        return f"{self._root}/{gallery}/{name[:2]}/{name}"

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._threads.run(work)
        except TimeoutError:
            raise Unavailable(
                f"the image store did not answer within {self._timeout_s} s", self._root
            ) from None
        except Exception as error:  # each file system has its own
            raise Unavailable(
                "the image store failed", f"{self._root}: {first_line(error)}"
            ) from error
