"""What a gallery offers besides searches: its state, its kept images, their deletion."""

import asyncio
from collections.abc import Sequence
from typing import cast

import structlog

from passerby.contract import DEAD_LETTER_COUNTS, GALLERY_NAME, INGEST_STREAM, MAX_FILENAMES
from passerby.limits import Limit
from passerby.v1 import search_pb2
from services.gallery.redis_connection import redis_errors
from services.query.stores import Stores, serving_version, within
from services.query.validation import FILENAMES, check_filename, filter_expression, gallery_name
from services.runtime.errors import InvalidRequest, NotFound

log = structlog.get_logger()

LISTED = Limit(
    "galleries in a list of which all images were rejected", 1000, "galleries", "left out"
)
LIMITS = (LISTED,)

# Images that are deleted at once. Each such page is finished even if the caller has left.
_PAGE = 1000
# Galleries whose state is read concurrently.
_CONCURRENT = 8


async def delete(request: search_pb2.DeleteRequest, stores: Stores) -> search_pb2.DeleteResponse:
    """Deletes images from the gallery; raises a ServiceError.

    Idempotent: a deletion that fails half-way has deleted some images and may be repeated.
    """
    gallery = gallery_name(request.gallery)
    if bool(request.filenames) == request.HasField("filter"):
        raise InvalidRequest("set either filenames or filter: which images to delete")
    if len(request.filenames) > MAX_FILENAMES:
        raise InvalidRequest(f"{FILENAMES.exceeded(len(request.filenames))}; split the request")
    for filename in request.filenames:
        check_filename("filenames", filename)
    expression = filter_expression(request.filter)
    if request.HasField("filter") and not expression:
        raise InvalidRequest("filter: has no condition and would delete the whole gallery")
    await serving_version(stores, gallery)
    deleted = 0
    if expression:
        async for ids in stores.vectors.ids_matching(gallery, expression):
            deleted += await _delete_all(stores, gallery, ids)
    else:
        filenames = list(dict.fromkeys(request.filenames))
        found = await stores.names.ids_of(gallery, filenames)
        deleted += await _delete_all(stores, gallery, [id_ for id_ in found if id_ is not None])
    log.info("deleted", gallery=gallery, images=deleted)
    return search_pb2.DeleteResponse(deleted=deleted)


async def _delete_all(stores: Stores, gallery: str, ids: Sequence[int]) -> int:
    deleted = 0
    for start in range(0, len(ids), _PAGE):
        # Without the shield a caller who leaves in between would leave names and images behind
        # that no filter finds any more.
        deleted += await asyncio.shield(_delete_page(stores, gallery, ids[start : start + _PAGE]))
    return deleted


async def _delete_page(stores: Stores, gallery: str, ids: Sequence[int]) -> int:
    deleted = await stores.vectors.delete(gallery, ids)
    await stores.names.forget(gallery, ids)
    # An image that was pushed in between has its vector written and its name taken: it counts as
    # pushed before the deletion, and nothing of it may stay.
    await stores.vectors.delete(gallery, ids)
    await stores.digests.forget(gallery, ids)
    if stores.images:
        await stores.images.remove(gallery, ids)
    return deleted


async def get_gallery(
    request: search_pb2.GetGalleryRequest, stores: Stores, timeout_s: float
) -> search_pb2.Gallery:
    """The state of one gallery; its count is 0 if all of its images were rejected."""
    gallery = gallery_name(request.gallery)
    deadline = asyncio.get_running_loop().time() + timeout_s
    pending, rejected = await _queue(stores, deadline)
    return await _gallery(stores, gallery, pending, rejected.get(gallery, 0), deadline)


async def list_galleries(stores: Stores, timeout_s: float) -> search_pb2.ListGalleriesResponse:
    """All galleries, sorted by name; also those whose images were all rejected."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    pending, rejected = await _queue(stores, deadline)
    async with within(deadline, "Milvus"):
        there = await stores.vectors.galleries()
    # Whoever may push makes names among the rejected: Milvus is not asked for each of them.
    others = sorted(rejected.keys() - set(there))[: int(LISTED.value)]
    found = [
        search_pb2.Gallery(gallery=name, pending=pending, dead_letters=rejected[name])
        for name in others
    ]
    slots = asyncio.Semaphore(_CONCURRENT)

    async def state_of(name: str) -> search_pb2.Gallery | None:
        async with slots:
            try:
                return await _gallery(stores, name, pending, rejected.get(name, 0), deadline)
            except NotFound:  # dropped since it was listed
                return None

    states = await asyncio.gather(*(state_of(name) for name in there))
    found += [state for state in states if state]
    found.sort(key=lambda state: state.gallery)
    return search_pb2.ListGalleriesResponse(galleries=found)


async def _gallery(
    stores: Stores, gallery: str, pending: int, dead_letters: int, deadline: float
) -> search_pb2.Gallery:
    state = search_pb2.Gallery(gallery=gallery, pending=pending, dead_letters=dead_letters)
    async with within(deadline, "Milvus"):
        try:
            version = await serving_version(stores, gallery)
            state.count = await stores.vectors.count(gallery)
            # An empty gallery takes up the model of its next image: it waits for no swap.
            state.model = version if state.count else ""
        except NotFound:
            if not dead_letters:
                raise
    return state


async def _queue(stores: Stores, deadline: float) -> tuple[int, dict[str, int]]:
    """(unfinished entries, gallery -> rejected images and entries)."""
    async with within(deadline, "Redis"):
        with redis_errors("XLEN"):
            pending = await stores.redis.xlen(INGEST_STREAM)
            counts = cast(dict[bytes, bytes], await stores.redis.hgetall(DEAD_LETTER_COUNTS))
    rejected = {name.decode(errors="replace"): int(count) for name, count in counts.items()}
    # An entry that is not an ImageBatch has no gallery, or names something that cannot be one.
    return pending, {name: n for name, n in rejected.items() if GALLERY_NAME.fullmatch(name)}


async def kept_image(stores: Stores, gallery: str, filename: str) -> bytes:
    """The encoded image as it was pushed; NotFound says so if IMAGES_URI is the reason."""
    gallery_name(gallery)
    check_filename("filename", filename)
    if stores.images is None:
        raise NotFound(
            "images are not kept here: set IMAGES_URI for the indexer and the query service, "
            "then push them again"
        )
    (id_,) = await stores.names.ids_of(gallery, [filename])
    image = None if id_ is None else await stores.images.get(gallery, id_)
    if image is None:
        raise NotFound(
            f"gallery {gallery!r} has no image {filename!r}, or it was pushed before IMAGES_URI "
            "was set: push it again"
        )
    return image
