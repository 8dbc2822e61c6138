"""The Search service over gRPC: each call has its caller's deadline, or less."""

from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc

from passerby.v1 import search_pb2, search_pb2_grpc
from services.query import galleries
from services.query.gallery_deletion import delete_gallery
from services.query.held import Held
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
# What one replica cannot reach, another one may: a node can be cut off alone. What three attempts
# did not find is taken to be missing for all of them.
_ATTEMPTS = 3
# Of the caller's time, without which another attempt would end in a bare DEADLINE_EXCEEDED.
_RETRY_S = 1.0


class Servicer(search_pb2_grpc.SearchServicer):
    """timeout_s: time for an answer if the caller sets no deadline, or a later one.

    images: to search by, that are in hand.
    """

    def __init__(
        self, stores: Stores, embedder: EmbedderClient, timeout_s: float, images: Held
    ) -> None:
        self._stores = stores
        self._embedder = embedder
        self._timeout_s = timeout_s
        self._images = images

    async def Search(  # noqa: N802 - the contract's name
        self, request: search_pb2.SearchRequest, context: Any
    ) -> search_pb2.SearchResponse:
        with self._images.hold(len(request.image)):
            answer = search(request, self._stores, self._embedder, self._time(context))
            return await _answered(answer, context)

    async def Delete(  # noqa: N802 - the contract's name
        self,
        request: search_pb2.DeleteRequest,
        context: Any,
    ) -> search_pb2.DeleteResponse:
        return await _answered(galleries.delete(request, self._stores), context)

    async def FindMissing(  # noqa: N802 - the contract's name
        self, request: search_pb2.FindMissingRequest, context: Any
    ) -> search_pb2.FindMissingResponse:
        answer = find_missing(request, self._stores, self._embedder, self._time(context))
        return await _answered(answer, context)

    async def DeleteGallery(  # noqa: N802 - the contract's name
        self,
        request: search_pb2.DeleteGalleryRequest,
        context: Any,
    ) -> search_pb2.DeleteGalleryResponse:
        return await _answered(delete_gallery(request, self._stores), context)

    async def GetGallery(  # noqa: N802 - the contract's name
        self, request: search_pb2.GetGalleryRequest, context: Any
    ) -> search_pb2.Gallery:
        answer = galleries.get_gallery(request, self._stores, self._time(context))
        return await _answered(answer, context)

    async def ListGalleries(  # noqa: N802 - the contract's name
        self,
        request: search_pb2.ListGalleriesRequest,  # noqa: ARG002
        context: Any,
    ) -> search_pb2.ListGalleriesResponse:
        answer = galleries.list_galleries(self._stores, self._time(context))
        return await _answered(answer, context)

    def _time(self, context: "grpc.aio.ServicerContext[Any, Any]") -> float:
        remaining = context.time_remaining()
        return self._timeout_s if remaining is None else min(self._timeout_s, _SHARE * remaining)


async def _answered(answer: Awaitable[T], context: "grpc.aio.ServicerContext[Any, Any]") -> T:
    """Has the caller's gRPC retry an Unavailable on another replica, unless that was done already
    or no time is left for it: then the caller is to be told what is missing."""
    try:
        return await answer
    except Unavailable:
        time_left = context.time_remaining()
        too_late = time_left is not None and time_left < _RETRY_S
        if too_late or _previous_attempts(context) + 1 >= _ATTEMPTS:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "-1"),))
        raise


def _previous_attempts(context: "grpc.aio.ServicerContext[Any, Any]") -> int:
    """As the caller's gRPC counts them: absent from the first attempt."""
    metadata = dict(context.invocation_metadata() or ())
    return int(metadata.get("grpc-previous-rpc-attempts", 0))
