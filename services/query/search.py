"""A search: caption, image or filename -> vector -> ids -> filenames -> hits."""

import asyncio
import time

import numpy as np
import structlog
from google.protobuf.duration_pb2 import Duration
from numpy.typing import NDArray

from passerby.contract import MAX_WINDOW
from passerby.v1 import search_pb2
from services.gallery.filters import all_but, both
from services.gallery.vectors import Match
from services.query.embedding import embed_query
from services.query.stores import Stores, serving_version, within
from services.query.validation import Question, question
from services.runtime.embedder_client import EmbedderClient, Embedding
from services.runtime.errors import NotFound

log = structlog.get_logger()

# How often a page is topped up after images of it turned out to be deleted.
_ROUNDS = 4


async def search(
    request: search_pb2.SearchRequest, stores: Stores, embedder: EmbedderClient, timeout_s: float
) -> search_pb2.SearchResponse:
    """Answers a request that may hold anything; raises a ServiceError within `timeout_s`."""
    start = time.perf_counter()
    asked = question(request)
    deadline = asyncio.get_running_loop().time() + timeout_s
    response = search_pb2.SearchResponse()
    while response.model != (version := await _version(stores, asked.gallery, deadline)):
        # The first time; and again if the gallery was switched to another model meanwhile, in
        # whose space the vector means nothing.
        response = await _answer(request, asked, version, stores, embedder, deadline)
    seconds = time.perf_counter() - start
    response.took.CopyFrom(_duration(seconds))
    log.info(
        "searched",
        gallery=asked.gallery,
        by=request.WhichOneof("query"),
        offset=asked.offset,
        hits=len(response.hits),
        took_ms=round(1000 * seconds, 1),
    )
    return response


async def _version(stores: Stores, gallery: str, deadline: float) -> str:
    async with within(deadline, "Milvus"):
        return await serving_version(stores, gallery)


async def _answer(
    request: search_pb2.SearchRequest,
    asked: Question,
    version: str,
    stores: Stores,
    embedder: EmbedderClient,
    deadline: float,
) -> search_pb2.SearchResponse:
    start = time.perf_counter()
    expression = asked.expression
    if request.WhichOneof("query") == "filename":
        async with within(deadline, "Redis or Milvus"):
            id_, vector = await _stored(stores, asked.gallery, request.filename)
        query = Embedding(vector, version)
        # An image is no answer to the question what else looks like it.
        expression = both(expression, all_but(id_))
    else:
        async with within(deadline, "the embedder"):
            query = await embed_query(request, version, embedder, deadline)
    embedded = time.perf_counter()
    searching = resolving = 0.0
    hits: dict[int, search_pb2.Hit] = {}
    offset = asked.offset
    for _ in range(_ROUNDS):
        limit = min(asked.top_k, MAX_WINDOW - offset)
        before = time.perf_counter()
        async with within(deadline, "Milvus"):
            matches = await stores.vectors.search(
                asked.gallery, query.vector, limit, offset, expression
            )
        found = time.perf_counter()
        async with within(deadline, "Redis"):
            names = await stores.names.filenames_of(asked.gallery, [match.id for match in matches])
        searching += found - before
        resolving += time.perf_counter() - found
        for match, name in zip(matches, names, strict=True):
            # Between vectors and names an image may be deleted, or its deletion not be visible
            # in Milvus yet: who has no name is gone.
            if name is not None:
                hits.setdefault(match.id, _hit(match, name))
        offset += limit
        if len(hits) >= asked.top_k or len(matches) < limit or offset >= MAX_WINDOW:
            break
    response = search_pb2.SearchResponse(model=version)
    response.hits.extend(list(hits.values())[: asked.top_k])
    if request.explain:
        response.explanation.unknown_words.extend(query.unknown_words)
        response.explanation.expression = expression
        response.explanation.embed_took.CopyFrom(_duration(embedded - start))
        response.explanation.search_took.CopyFrom(_duration(searching))
        response.explanation.resolve_took.CopyFrom(_duration(resolving))
    return response


async def _stored(stores: Stores, gallery: str, filename: str) -> tuple[int, NDArray[np.float32]]:
    """(id, vector) of an image of the gallery."""
    (id_,) = await stores.names.ids_of(gallery, [filename])
    vector = None if id_ is None else await stores.vectors.vector_of(gallery, id_)
    if id_ is None or vector is None:
        raise NotFound(
            f"filename: gallery {gallery!r} has no image {filename!r}, or not yet; "
            "names are written exactly as they were pushed"
        )
    return id_, vector


def _hit(match: Match, filename: str) -> search_pb2.Hit:
    hit = search_pb2.Hit(
        filename=filename,
        # Rounding carries the cosine of equal vectors past 1.
        score=min(1.0, max(-1.0, match.score)),
        camera=match.camera,
        tags=match.tags,
    )
    if match.captured_at_us is not None:
        hit.captured_at.FromMicroseconds(match.captured_at_us)
    return hit


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(1e9 * seconds))
    return duration
