"""Where a gallery's parts are stored, and the error that names the one that does not answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from redis.asyncio import Redis

from services.gallery.digests import Digests
from services.gallery.gallery_deletions import GalleryDeletions
from services.gallery.images import Images
from services.gallery.names import Names
from services.gallery.vectors import Vectors
from services.runtime.errors import NotFound, Unavailable


@dataclass(frozen=True)
class Stores:
    """images is None if the operator keeps no images (IMAGES_URI is not set)."""

    vectors: Vectors
    names: Names
    digests: Digests
    deletions: GalleryDeletions
    images: Images | None
    redis: Redis


@contextlib.asynccontextmanager
async def within(deadline: float, name: str) -> AsyncIterator[None]:
    """Raises Unavailable, with the name of the dependency, if the body lasts past `deadline`.

    deadline: time of the event loop.
    """
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise Unavailable(f"{name} did not answer in time; try again in a moment") from None


async def serving_version(stores: Stores, gallery: str) -> str:
    """Version of the model that the gallery is served with; NotFound says how to create it."""
    try:
        return await stores.vectors.model_version(gallery)
    except NotFound:
        raise no_gallery(gallery) from None


def no_gallery(gallery: str) -> NotFound:
    return NotFound(
        f"there is no gallery {gallery!r}; the first image that is pushed to it creates it: "
        f"passerby push FOLDER --gallery {gallery}"
    )
