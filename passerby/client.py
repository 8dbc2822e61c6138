"""The Python client: search over gRPC, push over the queue in Redis."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc

from passerby import tracing
from passerby.channel import CHANNEL_OPTIONS
from passerby.contract import DEFAULT_GALLERY, MAX_FILENAMES
from passerby.errors import PasserbyError, Refused, Unavailable
from passerby.v1 import queue_pb2, search_pb2, search_pb2_grpc
from passerby.values import DeadLetter, Filter, Gallery, Hits, Image, Progress
from passerby.waiting import Peer, Say, log

if TYPE_CHECKING:
    from passerby.ingest import IngestQueue

DEFAULT_QUERY = "127.0.0.1:50052"
DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
TIMEOUT_S = 10.0
# Deleting by a filter walks through the gallery.
DELETE_TIMEOUT_S = 300.0
# A million kept images are deleted one by one.
DELETE_GALLERY_TIMEOUT_S = 3600.0
STALL_TIMEOUT_S = 300.0
# Of Redis, during a push: its pod moves to another node within that time.
OUTAGE_TIMEOUT_S = 300.0
CONNECT_TIMEOUT_VARIABLE = "PASSERBY_CONNECT_TIMEOUT_S"

_LATER = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,  # by a server that stops
}
# gRPC's own words, under the status that a service with a full queue answers too.
_TOO_LARGE = "message larger than max"
# gRPC's own words where nothing answers, unlike a service that lacks a dependency.
_NO_CONNECTION = (
    "failed to connect",
    "connections to all backends failing",
    "DNS resolution failed",
)


@contextlib.contextmanager
def _expressible() -> Iterator[None]:
    """Turns what a message cannot carry into Refused, as the service itself would answer: a name
    that is not text, a number or a time out of range.
    """
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise Refused(str(error)) from error


class Client:
    """Searches galleries and pushes images into them; safe to share between threads.

    query: any gRPC target of the query service; $PASSERBY_QUERY or 127.0.0.1:50052 by default.
    redis_url: the queue; $REDIS_URL or redis://127.0.0.1:6379/0 by default. Where it has no
    password, that is $REDIS_PASSWORD.
    timeout_s: the deadline of each call, retries included.
    connect_timeout_s: a service that is unavailable is waited for this long before its first
    answer; $PASSERBY_CONNECT_TIMEOUT_S or 0 by default. The container images set it to 30, as
    network policies may let a new pod reach nothing in its first seconds.
    on_wait: gets a line that says what is waited for, once each time; logged by default.

    Connections are opened by the first call that needs them. Every method that calls a service
    raises Unavailable or Refused, both a PasserbyError, with a message that says what to do.
    """

    def __init__(
        self,
        query: str | None = None,
        redis_url: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        connect_timeout_s: float | None = None,
        on_wait: Say = log.warning,
    ) -> None:
        self.query = query or os.environ.get("PASSERBY_QUERY") or DEFAULT_QUERY
        self.redis_url = redis_url or os.environ.get("REDIS_URL") or DEFAULT_REDIS_URL
        self.timeout_s = timeout_s
        if connect_timeout_s is None:
            connect_timeout_s = _connect_timeout_of_environment()
        self._say = on_wait
        self._query_peer = Peer(connect_timeout_s, on_wait)
        self._redis_peer = Peer(connect_timeout_s, on_wait)
        self._channel = grpc.insecure_channel(self.query, options=CHANNEL_OPTIONS)
        self._search = search_pb2_grpc.SearchStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; the client cannot be used any more. A `with` block does it."""
        self._channel.close()
        if "_queue" in self.__dict__:
            self._queue.close()

    @cached_property
    def _queue(self) -> "IngestQueue":
        # Importing redis takes longer than a search, which does not need it.
        from passerby.ingest import IngestQueue

        password = os.environ.get("REDIS_PASSWORD", "")
        return IngestQueue(self.redis_url, self.timeout_s, self._redis_peer, password)

    def search(
        self,
        caption: str | None = None,
        *,
        image: bytes | None = None,
        filename: str | None = None,
        gallery: str = DEFAULT_GALLERY,
        top_k: int | None = None,
        offset: int = 0,
        where: Filter | None = None,
        explain: bool = False,
    ) -> Hits:
        """The images that match best, best first, each once.

        Exactly one of: caption, what the person looks like; image, an encoded image of the
        person; filename, an image of the gallery, to find more like it.
        top_k: 1 to 1,000, 12 if left out; offset: number of hits to skip.
        """
        if sum(query is not None for query in (caption, image, filename)) != 1:
            raise ValueError("search for one of: caption, image, filename")
        with _expressible():
            request = search_pb2.SearchRequest(
                gallery=gallery,
                caption=caption,
                image=image,
                filename=filename,
                top_k=top_k,
                offset=offset,
                filter=where.message() if where else None,
                explain=explain,
            )
        return Hits(self._call(self._search.Search, request, self.timeout_s))

    def delete(
        self,
        *,
        gallery: str = DEFAULT_GALLERY,
        filenames: Iterable[str] = (),
        where: Filter | None = None,
    ) -> int:
        """Takes these images, or all that match, out of the gallery; returns how many it had."""
        filenames, deleted = list(filenames), 0
        # Once at least, for the filter.
        for start in range(0, max(len(filenames), 1), MAX_FILENAMES):
            with _expressible():
                request = search_pb2.DeleteRequest(
                    gallery=gallery,
                    filenames=filenames[start : start + MAX_FILENAMES],
                    filter=where.message() if where else None,
                )
            deleted += self._call(self._search.Delete, request, DELETE_TIMEOUT_S).deleted
        return deleted

    def delete_gallery(self, name: str) -> int:
        """Deletes a gallery with all that belongs to it; returns how many images it had.

        What was pushed before, and still waits in the queue, is deleted too. Interrupted, it is
        simply repeated. Refused with code NOT_FOUND if there is nothing of the gallery.
        """
        request = search_pb2.DeleteGalleryRequest(gallery=name)
        response = self._call(self._search.DeleteGallery, request, DELETE_GALLERY_TIMEOUT_S)
        return int(response.deleted)

    def gallery(self, name: str = DEFAULT_GALLERY) -> Gallery:
        """One gallery's size, model and state; Refused with code NOT_FOUND if it does not exist."""
        request = search_pb2.GetGalleryRequest(gallery=name)
        return Gallery.from_message(self._call(self._search.GetGallery, request, self.timeout_s))

    def galleries(self) -> list[Gallery]:
        """Every gallery, by name; empty before the first push."""
        request = search_pb2.ListGalleriesRequest()
        response = self._call(self._search.ListGalleries, request, self.timeout_s)
        return [Gallery.from_message(gallery) for gallery in response.galleries]

    def push(
        self,
        images: Iterable[Image],
        *,
        gallery: str = DEFAULT_GALLERY,
        wait: bool = True,
        on_progress: Callable[[Progress], None] = lambda _: None,
        stall_timeout_s: float = STALL_TIMEOUT_S,
        outage_timeout_s: float = OUTAGE_TIMEOUT_S,
        again: bool = False,
    ) -> Progress:
        """Puts images on the queue, in batches, never more than the queue has room for.

        wait: return when all of them are searchable or rejected, else when all are queued.
        on_progress: called after each batch, and about 20 times a second while waiting.
        stall_timeout_s: raises Unavailable if nothing is taken from the queue for this long; what
        is queued stays there.
        outage_timeout_s: raises Unavailable if Redis is away for this long.
        again: push what is searchable with the same content, too.

        Pushing an image again replaces it. A push that was interrupted is simply repeated: it
        waits for what is on the queue, asks the query service what is searchable with the same
        content, fields included, and pushes the rest; where nobody can tell, everything. An image
        that is rejected is in the result's failures and does not affect the others.
        """
        return self._queue.push(
            images,
            gallery,
            wait=wait,
            on_progress=on_progress,
            stall_timeout_s=stall_timeout_s,
            outage_timeout_s=outage_timeout_s,
            find_missing=None if again else partial(self._find_missing, gallery),
            say=self._say,
        )

    def _find_missing(self, gallery: str, images: Sequence[queue_pb2.Image]) -> Iterable[str]:
        digests = [
            search_pb2.ImageDigest(filename=image.filename, digest=image.digest) for image in images
        ]
        request = search_pb2.FindMissingRequest(gallery=gallery, images=digests)
        return list(self._call(self._search.FindMissing, request, self.timeout_s).filenames)

    def pending(self) -> int:
        """Entries of the queue that are not finished."""
        return self._queue.pending()

    def dead_letters(self, gallery: str | None = None) -> Iterator[DeadLetter]:
        """What the indexer rejected, oldest first; of all galleries if none is named."""
        return self._queue.dead_letters(gallery)

    def retry_dead_letters(self, gallery: str | None = None) -> int:
        """Puts what was rejected on the queue again, once its cause is fixed; returns how many."""
        return self._queue.retry_dead_letters(gallery)

    def clear_dead_letters(self, gallery: str | None = None) -> int:
        """Deletes what was rejected, for good; returns how many."""
        return self._queue.clear_dead_letters(gallery)

    def _call(self, method: Any, request: Any, timeout_s: float) -> Any:
        tracing.follow_application()

        def attempt() -> Any:
            try:
                return method(request, timeout=timeout_s, metadata=tracing.metadata())
            except grpc.RpcError as error:
                raise self._explained(error.code(), error.details() or "") from error

        return self._query_peer.call(attempt)

    def _explained(self, code: grpc.StatusCode, details: str) -> PasserbyError:
        if code == grpc.StatusCode.UNAVAILABLE and details.startswith(_NO_CONNECTION):
            return Unavailable(
                f"the query service at {self.query} cannot be reached: is the stack up? "
                f"PASSERBY_QUERY names the address ({details})"
            )
        if code in _LATER and _TOO_LARGE not in details:
            return Unavailable(f"the query service at {self.query}: {details}")
        return Refused(details or code.name, code.name)


def _connect_timeout_of_environment() -> float:
    text = os.environ.get(CONNECT_TIMEOUT_VARIABLE) or "0"
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= 3600:
        raise PasserbyError(f"{CONNECT_TIMEOUT_VARIABLE}={text!r}: must be seconds, 0 to 3600")
    return seconds
