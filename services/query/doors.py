"""What stands before every call, over gRPC and HTTP: who it is, and whether it is too much."""

from contextlib import AbstractContextManager
from typing import Any

import grpc
from aiohttp import web

from services.query.settings import QuerySettings
from services.runtime.admission import Admission
from services.runtime.clients import Clients, address_of
from services.runtime.settings import limit_of

_BEYOND = "RESOURCE_EXHAUSTED (HTTP 429), with the time to come back"
CALLS = limit_of(QuerySettings, "max_calls", "requests in hand", "requests", _BEYOND)
SHARE = limit_of(
    QuerySettings, "max_calls_per_client", "requests in hand of one client", "requests", _BEYOND
)
RATE = limit_of(
    QuerySettings, "calls_per_s", "requests of one client, a second", "requests", _BEYOND
)
LIMITS = (CALLS, SHARE, RATE)
# Calls that are taken in beside those that are answered: health checks, and what is told to wait.
SPARE_CALLS = 32


class Doors:
    def __init__(self, settings: QuerySettings) -> None:
        self.clients = Clients(settings.trusted_proxies)
        self._admission = Admission(
            CALLS.at(settings.max_calls),
            SHARE.at(settings.max_calls_per_client),
            RATE.at(settings.calls_per_s),
        )

    def grpc_call(
        self, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> AbstractContextManager[None]:
        """Raises Overloaded, or gives the context within which the call is answered."""
        metadata = dict(context.invocation_metadata() or ())
        forwarded = str(metadata.get("x-forwarded-for", ""))
        client = self.clients.client(address_of(context.peer()), forwarded)
        self._admission.count(client)
        return self._admission.slot(client)

    def count(self, request: web.Request) -> None:
        """Raises Overloaded if its client calls too often."""
        self._admission.count(self._client(request))

    def http_call(self, request: web.Request) -> AbstractContextManager[None]:
        """As grpc_call, without counting. The request's body has been read: a slow one would keep
        others out."""
        return self._admission.slot(self._client(request))

    def _client(self, request: web.Request) -> str:
        # Each proxy appends to it, as one header or as several.
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", []))
        return self.clients.client(request.remote or "", forwarded)
