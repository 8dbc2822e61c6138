"""Deletes a gallery with all that belongs to it; cut off anywhere, another call completes it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import structlog
from redis.asyncio.lock import Lock
from redis.exceptions import LockError

from passerby.contract import (
    DEAD_LETTER_COUNTS,
    DEAD_LETTERS_STREAM,
    REMOVE_DEAD_LETTER,
    DeadLetterEntry,
)
from passerby.v1 import search_pb2
from services.gallery.gallery_deletions import Deletion
from services.gallery.redis_connection import redis_errors
from services.query.stores import Stores, no_gallery
from services.query.validation import gallery_name
from services.runtime.errors import InvalidRequest, NotFound, Unavailable

log = structlog.get_logger()

# Longer than any step between two extensions; whoever dies is waited for as long.
_LOCK_S = 60
_POLL_S = 0.1
# For entries that an indexer is in the middle of writing.
_INDEXERS_TIMEOUT_S = 120
# Letters that are read at once: each carries what was rejected.
_LETTERS = 20


async def delete_gallery(
    request: search_pb2.DeleteGalleryRequest, stores: Stores
) -> search_pb2.DeleteGalleryResponse:
    """Deletes the gallery; raises a ServiceError. May be repeated, and by several at once."""
    if not request.gallery:
        raise InvalidRequest("gallery: name the one to delete; none is deleted by default")
    gallery = gallery_name(request.gallery)
    async with _alone(stores, gallery) as extend:
        if not await _is_there(stores, gallery):
            raise no_gallery(gallery)
        images = await _count(stores, gallery)
        deletion = await stores.deletions.begin(gallery)
        log.info("deleting_gallery", gallery=gallery, up_to=deletion.up_to.decode())
        await _indexers_finished(stores, gallery, deletion, extend)
        # As of single images: vectors first, so that no hit is without its name.
        await stores.vectors.drop(gallery)
        await extend()
        await stores.names.forget_gallery(gallery)
        await stores.digests.forget_gallery(gallery)
        if stores.images:
            async for _ in stores.images.remove_gallery(gallery):
                await extend()
        await extend()
        letters = await _clear_dead_letters(stores, gallery, extend)
        await stores.deletions.end(gallery, deletion)
    log.info("gallery_deleted", gallery=gallery, images=images, dead_letters=letters)
    return search_pb2.DeleteGalleryResponse(deleted=images, dead_letters=letters)


@contextlib.asynccontextmanager
async def _alone(stores: Stores, gallery: str) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """One deletion of a gallery at a time, or the first to end would let in what the other one
    then deletes. Yields what asks for more time."""
    lock = Lock(
        stores.redis,
        f"passerby:gallery-deletion-lock:{gallery}",
        timeout=_LOCK_S,
        blocking_timeout=_LOCK_S + 10,
    )
    try:
        with redis_errors():
            async with lock:
                yield lock.reacquire
    except LockError as error:
        raise Unavailable(
            f"gallery {gallery!r} is being deleted by another call; try again in a moment"
        ) from error


async def _is_there(stores: Stores, gallery: str) -> bool:
    """Whether anything of it is left, also by a deletion that was cut off."""
    last = await stores.deletions.last(gallery)
    with redis_errors():
        letters = await stores.redis.hexists(DEAD_LETTER_COUNTS, gallery)
    return bool(
        (last and not last.ended)
        or letters
        or await stores.vectors.has_collections(gallery)
        or await stores.names.exist(gallery)
    )


async def _count(stores: Stores, gallery: str) -> int:
    try:
        return await stores.vectors.count(gallery)
    except NotFound:  # a deletion was cut off, or all images were rejected
        return 0


async def _indexers_finished(
    stores: Stores, gallery: str, deletion: Deletion, extend: Callable[[], Awaitable[object]]
) -> None:
    """Waits for those that began before the deletion did: they would write what is gone."""
    deadline = asyncio.get_running_loop().time() + _INDEXERS_TIMEOUT_S
    known: dict[bytes, str | None] = {}
    while entries := await stores.deletions.in_flight(gallery, deletion, known):
        if asyncio.get_running_loop().time() > deadline:
            raise Unavailable(
                f"indexers are still working on {entries} entries of gallery {gallery!r}: what "
                "keeps them stands in their logs; then delete it again"
            )
        await extend()
        await asyncio.sleep(_POLL_S)


async def _clear_dead_letters(
    stores: Stores, gallery: str, extend: Callable[[], Awaitable[object]]
) -> int:
    redis: Any = stores.redis
    keys = [DEAD_LETTERS_STREAM, DEAD_LETTER_COUNTS]
    start, cleared = b"-", 0
    with redis_errors():
        while page := await redis.xrange(DEAD_LETTERS_STREAM, start, "+", count=_LETTERS):
            for letter_id, fields in page:
                if DeadLetterEntry.from_fields(fields).gallery == gallery:
                    cleared += await redis.eval(
                        REMOVE_DEAD_LETTER, len(keys), *keys, letter_id, gallery
                    )
            start = b"(" + page[-1][0]
            await extend()
        # A count that is too high, as of letters that were deleted by hand, would keep its name.
        await redis.hdel(DEAD_LETTER_COUNTS, gallery)
    return cleared
