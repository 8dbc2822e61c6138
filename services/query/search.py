"""A search: caption, image or filename -> vector -> ids -> filenames -> hits."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import structlog
from google.protobuf.duration_pb2 import Duration
from numpy.typing import NDArray
from prometheus_client import Histogram

from passerby import tracing
from passerby.contract import MAX_WINDOW
from passerby.v1 import search_pb2
from services.gallery.filters import all_but, both
from services.gallery.vectors import Match
from services.query.embedding import embed_query
from services.query.stores import Stores, serving_version, within
from services.query.validation import SearchQuery, validated
from services.runtime.embedder_client import EmbedderClient, Embedding
from services.runtime.errors import NotFound, WrongModel

log = structlog.get_logger()

# How often a page is topped up after some of its images turned out to be deleted.
_ROUNDS = 4

STEP_SECONDS = Histogram(
    "passerby_search_step_seconds",
    "Time of a step of a search that was answered: embed (caption or image to vector), search "
    "(vector to ids), resolve (ids to filenames).",
    ["step"],
)
Step = Literal["embed", "search", "resolve"]
# From the start, at 0: of a series that begins with its first event `rate` misses that one.
for _step in get_args(Step):
    STEP_SECONDS.labels(_step)


@dataclass
class _Timings:
    """Seconds that the steps of a search took."""

    embed: float = 0
    search: float = 0
    resolve: float = 0

    @contextlib.contextmanager
    def measure(self, step: Step) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        STEP_SECONDS.labels(step).observe(seconds, tracing.exemplar())
        setattr(self, step, getattr(self, step) + seconds)


async def search(
    request: search_pb2.SearchRequest, stores: Stores, embedder: EmbedderClient, timeout_s: float
) -> search_pb2.SearchResponse:
    """Answers a request that may hold anything; raises a ServiceError within `timeout_s`."""
    start = time.perf_counter()
    query = validated(request)
    deadline = asyncio.get_running_loop().time() + timeout_s
    version = await _version(stores, query.gallery, deadline)
    while True:
        try:
            response = await _answer(query, version, stores, embedder, deadline)
        except WrongModel:
            if await _count(stores, query.gallery, deadline):
                raise
            # Its last image was deleted before a model swap, and nothing moved it over.
            response = search_pb2.SearchResponse()
        serving = await _version(stores, query.gallery, deadline)
        if serving == version:
            break
        # The gallery was switched to another model meanwhile, in whose space the vector means
        # nothing.
        version = serving
    seconds = time.perf_counter() - start
    response.took.CopyFrom(_duration(seconds))
    log.info(
        "searched",
        gallery=query.gallery,
        by=request.WhichOneof("query"),
        offset=query.offset,
        hits=len(response.hits),
        took_ms=round(1000 * seconds, 1),
    )
    return response


async def _version(stores: Stores, gallery: str, deadline: float) -> str:
    async with within(deadline, "Milvus"):
        return await serving_version(stores, gallery)


async def _count(stores: Stores, gallery: str, deadline: float) -> int:
    async with within(deadline, "Milvus"):
        return await stores.vectors.count(gallery)


async def _answer(
    query: SearchQuery, version: str, stores: Stores, embedder: EmbedderClient, deadline: float
) -> search_pb2.SearchResponse:
    """The answer in the space of the model `version`."""
    request, timings = query.request, _Timings()
    with timings.measure("embed"):
        if request.WhichOneof("query") == "filename":
            async with within(deadline, "Redis or Milvus"):
                id_, vector = await _stored(stores, query.gallery, request.filename)
            embedded = Embedding(vector, version)
            # What else looks like an image is never that image.
            query = replace(query, expression=both(query.expression, all_but(id_)))
        else:
            async with within(deadline, "the embedder"):
                embedded = await embed_query(request, version, embedder, deadline)
    hits = await _top_up(query, embedded.vector, stores, deadline, timings)
    response = search_pb2.SearchResponse(model=version, hits=hits)
    if request.explain:
        explanation = response.explanation
        explanation.unknown_words.extend(embedded.unknown_words)
        explanation.expression = query.expression
        explanation.embed_took.CopyFrom(_duration(timings.embed))
        explanation.search_took.CopyFrom(_duration(timings.search))
        explanation.resolve_took.CopyFrom(_duration(timings.resolve))
    return response


async def _top_up(
    query: SearchQuery,
    vector: NDArray[np.float32],
    stores: Stores,
    deadline: float,
    timings: _Timings,
) -> list[search_pb2.Hit]:
    """A page of hits, topped up from the next ones where images of it were deleted."""
    hits: dict[int, search_pb2.Hit] = {}
    offset = query.offset
    for _ in range(_ROUNDS):
        limit = min(query.top_k, MAX_WINDOW - offset)
        with timings.measure("search"):
            async with within(deadline, "Milvus"):
                matches = await stores.vectors.search(
                    query.gallery, vector, limit, offset, query.expression
                )
        with timings.measure("resolve"):
            async with within(deadline, "Redis"):
                ids = [match.id for match in matches]
                names = await stores.names.filenames_of(query.gallery, ids)
        for match, name in zip(matches, names, strict=True):
            # Between vectors and names an image may be deleted, or its deletion not be visible
            # in Milvus yet: one without a name is gone.
            if name is not None:
                hits.setdefault(match.id, _hit(match, name))
        offset += limit
        if len(hits) >= query.top_k or len(matches) < limit or offset >= MAX_WINDOW:
            break
    return list(hits.values())[: query.top_k]


async def _stored(stores: Stores, gallery: str, filename: str) -> tuple[int, NDArray[np.float32]]:
    """(id, vector) of an image of the gallery."""
    (id_,) = await stores.names.ids_of(gallery, [filename])
    vector = None if id_ is None else await stores.vectors.vector_of(gallery, id_)
    if id_ is None or vector is None:
        raise NotFound(
            f"filename: gallery {gallery!r} has no image {filename!r}, or not yet; "
            "write the name exactly as it was pushed"
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
