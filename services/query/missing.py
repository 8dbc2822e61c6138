"""Of images that somebody is about to push: those that a push would change."""

import asyncio

from passerby.contract import MAX_DIGEST_BYTES, MAX_FILENAMES
from passerby.v1 import search_pb2
from services.gallery.digests import indexed
from services.gallery.ids import candidate_ids
from services.query.stores import Stores, within
from services.query.validation import DIGEST, DIGESTS, check_filename, gallery_name
from services.runtime.embedder_client import EmbedderClient
from services.runtime.errors import InvalidRequest, NotFound


async def find_missing(
    request: search_pb2.FindMissingRequest,
    stores: Stores,
    embedder: EmbedderClient,
    timeout_s: float,
) -> search_pb2.FindMissingResponse:
    """Raises a ServiceError within `timeout_s`.

    An image is there if its name has an id, the record of that id says the same digest and model
    version, and Milvus has a vector of it: each may be missing where the others are not, after a
    crash, a deletion or the restore of one store. When in doubt it is missing: pushing an image
    again harms nothing. That holds for an image whose first id belongs to another one, too.
    """
    gallery = gallery_name(request.gallery)
    if len(request.images) > MAX_FILENAMES:
        raise InvalidRequest(f"{DIGESTS.exceeded(len(request.images))}; split the request")
    for image in request.images:
        check_filename("images.filename", image.filename)
        if not 1 <= len(image.digest) <= MAX_DIGEST_BYTES:
            wrong = DIGEST.exceeded(len(image.digest)) if image.digest else "it is empty"
            raise InvalidRequest(f"images.digest: {wrong}")
    deadline = asyncio.get_running_loop().time() + timeout_s
    async with within(deadline, "the embedder"):
        version = await embedder.preferred_version()
    recorded = await _recorded(request, gallery, version, stores, deadline)
    ids = [id_ for id_ in recorded if id_ is not None]
    async with within(deadline, "Milvus"):
        try:
            # Not the newest state, which would take longer: a vector that was deleted just now has
            # no name any more, and one that does not show yet is written again.
            lacking = set(await stores.vectors.lacking(gallery, version, ids, newest=False))
        except NotFound:  # the model is new, or its collection was dropped
            lacking = set(ids)
    missing = [
        image.filename
        for image, id_ in zip(request.images, recorded, strict=True)
        if id_ is None or id_ in lacking
    ]
    return search_pb2.FindMissingResponse(filenames=missing)


async def _recorded(
    request: search_pb2.FindMissingRequest,
    gallery: str,
    version: str,
    stores: Stores,
    deadline: float,
) -> list[int | None]:
    """The id of each image; None for one that was not indexed with this digest by this model."""
    ids = [candidate_ids(gallery, image.filename)[0] for image in request.images]
    async with within(deadline, "Redis"):
        names = await stores.names.filenames_of(gallery, ids)
        records = await stores.digests.get(gallery, ids)
    # What is kept here need not be kept there.
    kept = [True] if stores.images else [True, False]
    return [
        id_
        if name == image.filename
        and record in [indexed(version, image.digest, kept=it) for it in kept]
        else None
        for image, id_, name, record in zip(request.images, ids, names, records, strict=True)
    ]
