"""How each service's gRPC server is made: health, reflection, size limits, errors, measurements."""

# grpc's classes take type parameters in their stubs only, not at run time.
from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
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

MESSAGE = Limit("message", MAX_MESSAGE_BYTES, "bytes", "RESOURCE_EXHAUSTED")
LIMITS = (MESSAGE,)

# gRPC's clients refuse trailers of 8 KiB, in which a character may take twelve.
MAX_MESSAGE_CHARACTERS = 600

# Who waits for a service asks this every second.
_PROBES = frozenset({"passerby.v1.Embedder/GetModel"})
_RPC = {"rpc.system.name": "grpc"}

RPC_SECONDS = Histogram("passerby_rpc_seconds", "Time to answer a call.", ["method", "code"])

Handler = Callable[[Any, Any], Awaitable[Any]]


class _Calls(grpc.aio.ServerInterceptor):
    """Turns exceptions into statuses and measures, for every unary call of the service."""

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
        measured = _measured(path.rpartition("/")[2], cast(Handler, handler.unary_unary))

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
            await context.abort(code, str(error)[:MAX_MESSAGE_CHARACTERS])
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


def make_server(health: Health, *service_names: str) -> grpc.aio.Server:
    """A server with health and reflection; the caller adds its servicers and starts it.

    service_names: full names of the servicers, for reflection, for example `passerby.v1.Search`.
    """
    server = grpc.aio.server(
        interceptors=[_Calls()],
        # Without this two processes share a port silently and each gets half of the calls.
        options=[
            *MESSAGE_LIMITS,
            ("grpc.so_reuseport", 0),
            ("grpc.max_connection_age_ms", MAX_CONNECTION_AGE_MS),
            # By default a client that pings more often than every five minutes is cut off; ours
            # ping every second to notice a silent server.
            ("grpc.http2.max_ping_strikes", 0),
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
