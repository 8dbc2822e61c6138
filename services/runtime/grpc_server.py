"""How each service's gRPC server is made: health, reflection, size limits, errors, measurements."""

# grpc's classes take type parameters in their stubs only, not at run time.
from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import grpc
import structlog
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import Histogram

from passerby import tracing
from passerby.channel import MAX_MESSAGE_BYTES, MESSAGE_LIMITS
from passerby.limits import Limit
from services.runtime.errors import HTTP_STATUS, ServiceError
from services.runtime.health import Health

log = structlog.get_logger()

# A client asks DNS again only when a connection ends: without an end, pods that are added would
# never get a call. Calls in hand are finished first.
MAX_CONNECTION_AGE_MS = 60_000

# An idle connection ends with its age; one with a call in hand has this much longer, which is what
# the longest call has: to delete a gallery.
AGE_GRACE_MS = 3_600_000
# Between two pings of ours is a second; a network that has stalled delivers several at once.
_PING_INTERVAL_MS = 300
_PING_STRIKES = 10

MESSAGE = Limit("message to the embedder", MAX_MESSAGE_BYTES, "bytes", "RESOURCE_EXHAUSTED")
SMALL_MESSAGE = Limit("message to the indexer", 64 * 1024, "bytes", "RESOURCE_EXHAUSTED")
CALLS = Limit("calls in hand of embedder or indexer", 256, "calls", "RESOURCE_EXHAUSTED")
STREAMS = Limit("calls in hand of one connection", 128, "calls", "waits in the client")
CONNECTIONS = Limit("connections of a server", 1024, "connections", "closed")
AGE = Limit("age of a connection", MAX_CONNECTION_AGE_MS / 1000, "seconds", "made anew")
PINGS = Limit(
    "pings without data that come too soon", _PING_STRIKES, "pings", "closed (ENHANCE_YOUR_CALM)"
)
LIMITS = (MESSAGE, SMALL_MESSAGE, CALLS, STREAMS, CONNECTIONS, AGE, PINGS)

# gRPC's clients refuse trailers of 8 KiB, in which a character may take twelve.
MAX_MESSAGE_CHARACTERS = 600

# Who waits for a service asks this every second.
_PROBES = frozenset({"passerby.v1.Embedder/GetModel"})
_RPC = {"rpc.system.name": "grpc"}

RPC_SECONDS = Histogram("passerby_rpc_seconds", "Time to answer a call.", ["method", "code"])

Handler = Callable[[Any, Any], Awaitable[Any]]
Admit = Callable[[grpc.aio.ServicerContext[Any, Any]], AbstractContextManager[None]]
"""Raises Overloaded, or gives the context within which a call is answered."""


class _Calls(grpc.aio.ServerInterceptor):
    """Turns exceptions into statuses and measures, for every unary call of the service."""

    def __init__(self, admit: Admit | None) -> None:
        self._admit = admit

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        path = handler_call_details.method.removeprefix("/")
        answer = cast(Handler, handler.unary_unary)
        # Health has to be answered above all when there is much to do.
        if self._admit and path.startswith("passerby."):
            answer = _admitted(answer, self._admit)
        measured = _measured(path.rpartition("/")[2], answer)

        async def traced(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            carrier = {key: str(value) for key, value in context.invocation_metadata() or ()}
            with tracing.entry(path, "server", carrier, _RPC | {"rpc.method": path}) as span:
                return await measured(request, context, span)

        is_traced = tracing.is_on() and path.startswith("passerby.") and path not in _PROBES
        return grpc.unary_unary_rpc_method_handler(
            cast(Any, traced if is_traced else measured),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _admitted(answer: Handler, admit: Admit) -> Handler:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        with admit(context):
            return await answer(request, context)

    return call


def _measured(method: str, answer: Handler) -> Callable[..., Awaitable[Any]]:
    async def call(
        request: Any,
        context: grpc.aio.ServicerContext[Any, Any],
        span: tracing.Span | None = None,
    ) -> Any:
        start = time.perf_counter()
        code = grpc.StatusCode.OK
        try:
            return await answer(request, context)
        except ServiceError as error:
            code = error.status
            if error.retry_after_s is not None:
                # What gRPC's clients, told to retry this status, wait for.
                pushback_ms = str(math.ceil(1000 * error.retry_after_s))
                context.set_trailing_metadata((("grpc-retry-pushback-ms", pushback_ms),))
            await context.abort(code, error.public[:MAX_MESSAGE_CHARACTERS])
        except grpc.aio.AbortError:
            code = grpc.StatusCode.UNKNOWN
            raise
        except asyncio.CancelledError:  # the caller has left
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception:  # the last line of defence: the neighbours' calls go on
            code = grpc.StatusCode.INTERNAL
            reference = uuid.uuid4().hex[:8]
            log.exception("call_failed", method=method, reference=reference)
            await context.abort(
                code, f"unexpected error in {method}; the service's log has it as {reference}"
            )
        finally:
            tracing.answered(span, code.name)
            RPC_SECONDS.labels(method, code.name).observe(
                time.perf_counter() - start, tracing.exemplar()
            )

    return call


def make_server(
    health: Health,
    *service_names: str,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    max_calls: int = int(CALLS.value),
    admit: Admit | None = None,
) -> grpc.aio.Server:
    """A server with health and reflection; the caller adds its servicers and starts it.

    service_names: full names of the servicers, for reflection, for example `passerby.v1.Search`.
    max_message_bytes: of a request. max_calls: in hand, health checks included. admit: asked before
    each call of the servicers.
    """
    server = grpc.aio.server(
        interceptors=[_Calls(admit)],
        maximum_concurrent_rpcs=max_calls,
        options=[
            *dict(
                [*MESSAGE_LIMITS, ("grpc.max_receive_message_length", max_message_bytes)]
            ).items(),
            # Without this two processes share a port silently and each gets half of the calls.
            ("grpc.so_reuseport", 0),
            ("grpc.max_concurrent_streams", int(STREAMS.value)),
            ("grpc.max_allowed_incoming_connections", int(CONNECTIONS.value)),
            ("grpc.max_connection_age_ms", MAX_CONNECTION_AGE_MS),
            ("grpc.max_connection_age_grace_ms", AGE_GRACE_MS),
            # By default a client that pings more often than every five minutes is cut off; ours
            # ping every second to notice a silent server.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", _PING_INTERVAL_MS),
            ("grpc.http2.max_ping_strikes", _PING_STRIKES),
        ],
    )
    # From the start, at 0: of a series that begins with its first event `rate` misses that one.
    for service in service_names:
        for method in descriptor_pool.Default().FindServiceByName(service).methods:
            for code in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED, *HTTP_STATUS):
                RPC_SECONDS.labels(method.name, code.name)
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    reflection.enable_server_reflection(
        (
            *service_names,
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            reflection.SERVICE_NAME,
        ),
        server,
    )
    return server


class PortTaken(Exception):
    """The operator's fault: something else listens on the address."""


def listen(server: grpc.aio.Server, host: str, port: int) -> int:
    """Binds the server; returns the port, which the system chooses for 0. Raises PortTaken."""
    try:
        port = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise PortTaken(f"{host}:{port} is in use, or not an address of this machine") from error
    log.info("listening", grpc=f"{host}:{port}")
    return port
