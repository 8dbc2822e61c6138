"""Bytes that requests have in hand: together no more than the service has memory for."""

import contextlib
from collections.abc import Iterator

from passerby.limits import Limit
from services.runtime.errors import Overloaded

# Each of them is there several times: as it came, within messages, on its way to the embedder.
IMAGES = Limit(
    "images to search by that are in hand", 64 * 1024 * 1024, "bytes", "RESOURCE_EXHAUSTED (429)"
)
LIMITS = (IMAGES,)


class Held:
    """Raises Overloaded instead of taking more than the limit."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self.bytes = 0

    def take(self, size: int) -> None:
        if self.bytes + size > self._limit.value:
            raise Overloaded(f"{self._limit.exceeded()}; try again in a moment")
        self.bytes += size

    def give_back(self, size: int) -> None:
        self.bytes -= size

    @contextlib.contextmanager
    def hold(self, size: int) -> Iterator[None]:
        self.take(size)
        try:
            yield
        finally:
            self.give_back(size)
