"""Where a gallery's parts are kept, and whom to name when one of them does not answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from redis.asyncio import Redis

from services.gallery.images import Images
from services.gallery.names import Names
from services.gallery.vectors import Vectors
from services.runtime.errors import NotFound, Unavailable


@dataclass(frozen=True)
class Stores:
    """images is None where the operator keeps none."""

    vectors: Vectors
    names: Names
    images: Images | None
    redis: Redis


@contextlib.asynccontextmanager
async def within(deadline: float, name: str) -> AsyncIterator[None]:
    """Raises Unavailable, naming who was waited for, if the body lasts past `deadline`.

    deadline: time of the event loop.
    """
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise Unavailable(f"{name} did not answer in time; try again in a moment") from None


async def serving_version(stores: Stores, gallery: str) -> str:
    """Version of the model that the gallery is served with; NotFound says how to make one."""
    try:
        return await stores.vectors.model_version(gallery)
    except NotFound:
        raise NotFound(
            f"there is no gallery {gallery!r}; the first image that is pushed to it makes it: "
            f"passerby push FOLDER --gallery {gallery}"
        ) from None
