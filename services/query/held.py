"""Images to search by that requests have in hand: no more than the service has memory for."""

import contextlib
from collections.abc import Iterator

from passerby.limits import Limit
from services.query.settings import QuerySettings
from services.runtime.errors import InvalidRequest, Overloaded
from services.runtime.settings import limit_of

IMAGE = limit_of(
    QuerySettings,
    "max_image_bytes",
    "image to search by",
    "bytes",
    "INVALID_ARGUMENT (HTTP 413)",
)
# Each of them is there several times: as it came, within messages, on its way to the embedder.
IMAGES = Limit(
    "images to search by that are in hand",
    64 * 1024 * 1024,
    "bytes",
    "RESOURCE_EXHAUSTED (HTTP 429)",
)
LIMITS = (IMAGE, IMAGES)


class Held:
    """image: limit of each; images: of all that are in hand together."""

    def __init__(self, image: Limit = IMAGE, images: Limit = IMAGES) -> None:
        self.image = image
        self._images = images
        self.bytes = 0

    def take(self, size: int) -> None:
        """Raises Overloaded instead of taking more than the limit."""
        if self.bytes + size > self._images.value:
            raise Overloaded(f"{self._images.exceeded()}; try again in a moment")
        self.bytes += size

    def give_back(self, size: int) -> None:
        self.bytes -= size

    @contextlib.contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """The body has a whole image in hand. Raises InvalidRequest if it is too large."""
        if size > self.image.value:
            raise InvalidRequest(f"{self.image.exceeded(size)}; scale it down")
        self.take(size)
        try:
            yield
        finally:
            self.give_back(size)
