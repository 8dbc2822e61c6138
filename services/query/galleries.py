"""What can be asked of a gallery beside a search: its state, its images, their deletion."""

import asyncio
from collections.abc import Sequence
from typing import cast

import structlog

from passerby.contract import DEAD_LETTER_COUNTS, GALLERY_NAME, INGEST_STREAM, MAX_FILENAMES
from passerby.v1 import search_pb2
from services.gallery.redis_connection import redis_errors
from services.query.stores import Stores, serving_version, within
from services.query.validation import check_filename, filter_expression, gallery_name
from services.runtime.errors import InvalidRequest, NotFound

log = structlog.get_logger()

# Images that are deleted in one go, each go being finished whatever becomes of the caller.
_PAGE = 1000
# Galleries that are looked at side by side.
_AT_ONCE = 8


async def delete(request: search_pb2.DeleteRequest, stores: Stores) -> search_pb2.DeleteResponse:
    """Takes images out of the gallery; raises a ServiceError.

    One that fails half-way has deleted some and may be repeated.
    """
    gallery = gallery_name(request.gallery)
    if bool(request.filenames) == request.HasField("filter"):
        raise InvalidRequest("set one of filenames and filter: which images to delete")
    if len(request.filenames) > MAX_FILENAMES:
        raise InvalidRequest(
            f"filenames: {len(request.filenames)} are more than {MAX_FILENAMES}; split them"
        )
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
        # A caller who leaves in between would leave names and images behind that no filter
        # finds any more.
        deleted += await asyncio.shield(_delete_page(stores, gallery, ids[start : start + _PAGE]))
    return deleted


async def _delete_page(stores: Stores, gallery: str, ids: Sequence[int]) -> int:
    deleted = await stores.vectors.delete(gallery, ids)
    await stores.names.forget(gallery, ids)
    # An image that was pushed in between has its vector written and its name taken: it counts as
    # pushed before the deletion, and nothing of it may stay.
    await stores.vectors.delete(gallery, ids)
    if stores.images:
        await stores.images.remove(gallery, ids)
    return deleted


async def get_gallery(
    request: search_pb2.GetGalleryRequest, stores: Stores, timeout_s: float
) -> search_pb2.Gallery:
    """The state of one gallery; one whose images were all refused has a count of 0."""
    gallery = gallery_name(request.gallery)
    deadline = asyncio.get_running_loop().time() + timeout_s
    pending, refused = await _queue(stores, deadline)
    return await _gallery(stores, gallery, pending, refused.get(gallery, 0), deadline)


async def list_galleries(stores: Stores, timeout_s: float) -> search_pb2.ListGalleriesResponse:
    """All galleries by name, those of which every image was refused among them."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    pending, refused = await _queue(stores, deadline)
    async with within(deadline, "Milvus"):
        names = sorted({*await stores.vectors.galleries(), *refused})
    slots = asyncio.Semaphore(_AT_ONCE)

    async def look(name: str) -> search_pb2.Gallery | None:
        async with slots:
            try:
                return await _gallery(stores, name, pending, refused.get(name, 0), deadline)
            except NotFound:  # dropped since it was listed
                return None

    found = await asyncio.gather(*(look(name) for name in names))
    return search_pb2.ListGalleriesResponse(galleries=[gallery for gallery in found if gallery])


async def _gallery(
    stores: Stores, gallery: str, pending: int, dead_letters: int, deadline: float
) -> search_pb2.Gallery:
    state = search_pb2.Gallery(gallery=gallery, pending=pending, dead_letters=dead_letters)
    async with within(deadline, "Milvus"):
        try:
            state.model = await serving_version(stores, gallery)
            state.count = await stores.vectors.count(gallery)
        except NotFound:
            if not dead_letters:
                raise
    return state


async def _queue(stores: Stores, deadline: float) -> tuple[int, dict[str, int]]:
    """(unfinished entries, gallery -> refused images and entries)."""
    async with within(deadline, "Redis"):
        with redis_errors():
            pending = await stores.redis.xlen(INGEST_STREAM)
            counts = cast(dict[bytes, bytes], await stores.redis.hgetall(DEAD_LETTER_COUNTS))
    refused = {name.decode(errors="replace"): int(count) for name, count in counts.items()}
    # An entry that is no batch belongs to no gallery, or to what it called one.
    return pending, {name: n for name, n in refused.items() if GALLERY_NAME.fullmatch(name)}


async def kept_image(stores: Stores, gallery: str, filename: str) -> bytes:
    """The encoded image as it was pushed; NotFound says whether that is a matter of IMAGES_URI."""
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
