"""The Search service over gRPC: each call has its caller's deadline, or less."""

from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc

from passerby.v1 import search_pb2, search_pb2_grpc
from services.query import galleries
from services.query.gallery_deletion import delete_gallery
from services.query.missing import find_missing
from services.query.search import search
from services.query.stores import Stores
from services.runtime.embedder_client import EmbedderClient
from services.runtime.errors import Unavailable

T = TypeVar("T")

NAME = search_pb2.DESCRIPTOR.services_by_name["Search"].full_name

# Share of the caller's time that the answer may take, so that an outage is answered with what is
# missing and not with a bare DEADLINE_EXCEEDED.
_SHARE = 0.9


class Servicer(search_pb2_grpc.SearchServicer):
    """timeout_s: time for an answer if the caller sets no deadline, or a later one."""

    def __init__(self, stores: Stores, embedder: EmbedderClient, timeout_s: float) -> None:
        self._stores = stores
        self._embedder = embedder
        self._timeout_s = timeout_s

    async def Search(  # noqa: N802 - the contract's name
        self, request: search_pb2.SearchRequest, context: Any
    ) -> search_pb2.SearchResponse:
        answer = search(request, self._stores, self._embedder, self._time(context))
        return await _final(answer, context)

    async def Delete(  # noqa: N802 - the contract's name
        self,
        request: search_pb2.DeleteRequest,
        context: Any,
    ) -> search_pb2.DeleteResponse:
        return await _final(galleries.delete(request, self._stores), context)

    async def FindMissing(  # noqa: N802 - the contract's name
        self, request: search_pb2.FindMissingRequest, context: Any
    ) -> search_pb2.FindMissingResponse:
        answer = find_missing(request, self._stores, self._embedder, self._time(context))
        return await _final(answer, context)

    async def DeleteGallery(  # noqa: N802 - the contract's name
        self,
        request: search_pb2.DeleteGalleryRequest,
        context: Any,
    ) -> search_pb2.DeleteGalleryResponse:
        return await _final(delete_gallery(request, self._stores), context)

    async def GetGallery(  # noqa: N802 - the contract's name
        self, request: search_pb2.GetGalleryRequest, context: Any
    ) -> search_pb2.Gallery:
        answer = galleries.get_gallery(request, self._stores, self._time(context))
        return await _final(answer, context)

    async def ListGalleries(  # noqa: N802 - the contract's name
        self,
        request: search_pb2.ListGalleriesRequest,  # noqa: ARG002
        context: Any,
    ) -> search_pb2.ListGalleriesResponse:
        answer = galleries.list_galleries(self._stores, self._time(context))
        return await _final(answer, context)

    def _time(self, context: "grpc.aio.ServicerContext[Any, Any]") -> float:
        remaining = context.time_remaining()
        return self._timeout_s if remaining is None else min(self._timeout_s, _SHARE * remaining)


async def _final(answer: Awaitable[T], context: "grpc.aio.ServicerContext[Any, Any]") -> T:
    """Tells the caller's gRPC not to retry an Unavailable: what is unavailable was retried here
    already, and is unavailable to the other replicas too."""
    try:
        return await answer
    except Unavailable:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", "-1"),))
        raise
