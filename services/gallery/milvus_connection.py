"""How the services reach Milvus: with deadlines, whole answers, errors that callers understand."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import grpc
from pymilvus import AsyncMilvusClient, MilvusClient, MilvusException
from pymilvus.exceptions import DataNotMatchException, ParamError

from services.gallery.filters import both, id_range, ids_in
from services.gallery.store_calls import store_call
from services.runtime.errors import NotFound, ServiceError, Unavailable, first_line

# Ids that are asked for at once.
PAGE = 10_000

# "No such collection or alias", in this order: 2.x, 2.4 and later for aliases, before 2.3.
NOT_FOUND = {100, 1600, 4}
_NOT_LOADED = 101
# Parameters and fields that are wrong: asking again does not help.
_REFUSED = {*range(1100, 1200), *range(1700, 1800)}
_GRPC_OPTIONS = {
    # The default is two minutes: a restarted Milvus would be found that late.
    "grpc.max_reconnect_backoff_ms": 1000,
    # Of one attempt to connect. The default is 20 seconds, spent on an address whose pod is gone.
    "grpc.min_reconnect_backoff_ms": 2000,
    # Linux's TCP gets this timeout too: a connection whose data nobody acknowledges is given up.
    "grpc.keepalive_timeout_ms": 2000,
    # pymilvus pings idle connections every 10 seconds, for which Lite's server cuts them off
    # ("too many pings"); ours are never idle for long, and calls have deadlines.
    "grpc.keepalive_permit_without_calls": 0,
    "grpc.keepalive_time_ms": 300_000,
}


class MilvusRefused(ServiceError):
    """Milvus calls the request itself wrong: a defect here, or a server that is too old."""


class Milvus:
    """A connection. What is written goes through `client`, within `errors` and `timeout_s`."""

    def __init__(self, uri: str, token: str, timeout_s: float) -> None:
        self._uri = uri
        self._token = token
        self.timeout_s = timeout_s
        # A connection of its own: shared ones stay with the event loop that opened them.
        self.client = AsyncMilvusClient(
            uri, token=token, dedicated=True, grpc_options=_GRPC_OPTIONS
        )

    async def close(self) -> None:
        await self.client.close()

    @contextlib.contextmanager
    def blocking(self) -> Iterator[MilvusClient]:
        """A client for a thread."""
        client = MilvusClient(
            self._uri,
            token=self._token,
            timeout=self.timeout_s,
            dedicated=True,
            grpc_options=_GRPC_OPTIONS,
        )
        try:
            yield client
        finally:
            client.close()

    async def count(self, collection: str) -> int:
        """Rows of a collection or alias, counted now and not estimated."""
        with self.errors(f"count {collection}"):
            rows = await self.read(
                self.client.query,
                collection,
                filter="",
                output_fields=["count(*)"],
                consistency_level="Strong",
            )
        return int(rows[0]["count(*)"])

    async def ids(
        self, collection: str, expression: str, limit: int, *, newest: bool = True
    ) -> list[int]:
        """Up to `limit` ids that the expression matches now, in any order.

        newest: wait until a server has what was written last; else as searches see it.
        """
        with self.errors(f"query {collection}"):
            rows = await self.read(
                self.client.query,
                collection,
                filter=expression,
                output_fields=["id"],
                limit=limit,
                consistency_level="Strong" if newest else "Bounded",
            )
        return [int(row["id"]) for row in rows]

    async def lacking(
        self, collection: str, ids: Sequence[int], *, newest: bool = True
    ) -> list[int]:
        """Those of the ids that the collection has no row of now, in their order."""
        there: set[int] = set()
        for start in range(0, len(ids), PAGE):
            page = list(ids[start : start + PAGE])
            there.update(await self.ids(collection, ids_in(page), len(page), newest=newest))
        return [id_ for id_ in ids if id_ not in there]

    async def pages(self, collection: str, expression: str = "") -> AsyncIterator[list[int]]:
        """All ids that the expression matches, fewer than PAGE at a time."""
        # No server promises an order of rows and each cuts long answers off. Ids are hashes, so
        # halving their range until the answers are whole gives even pages anywhere.
        ranges = [(0, 2**63 - 1)]
        while ranges:
            low, high = ranges.pop()
            page = await self.ids(collection, both(expression, id_range(low, high)), PAGE)
            if len(page) < PAGE:
                if page:
                    yield page
            else:
                middle = (low + high) // 2
                ranges += [(low, middle), (middle, high)]

    async def read(
        self, call: Callable[..., Awaitable[Any]], collection: str, **arguments: Any
    ) -> Any:
        """What needs the collection in memory; Lite's server has none there after a restart."""
        try:
            return await call(collection, timeout=self.timeout_s, **arguments)
        except MilvusException as error:
            if error.code != _NOT_LOADED:
                raise
        await self.client.load_collection(collection, timeout=self.timeout_s)
        return await call(collection, timeout=self.timeout_s, **arguments)

    @contextlib.contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """The one place that says what an error of Milvus means to a caller; measures too.

        what: begins with a word for the call, for example `search gallery people`.
        """
        try:
            with store_call("milvus", what.partition(" ")[0], what):
                yield
        except MilvusException as error:
            if error.code in NOT_FOUND:
                raise NotFound(f"Milvus cannot {what}: {first_line(error)}") from error
            if error.code in _REFUSED or isinstance(error, ParamError | DataNotMatchException):
                raise MilvusRefused(
                    f"Milvus rejected the request to {what}: {first_line(error)}"
                ) from error
            raise Unavailable(f"Milvus cannot {what}", first_line(error)) from error
        except (grpc.RpcError, TimeoutError, ConnectionError) as error:
            raise Unavailable(
                f"Milvus cannot {what}", f"at {self._uri}: {first_line(error)}"
            ) from error
