"""A receiver of traces in the test's own process: what a collector is sent, as plain values."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True)
class ReceivedSpan:
    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    links: frozenset[str]
    """Ids of the spans that it links to."""
    attributes: dict[str, Any]
    failed: bool
    start_ns: int
    end_ns: int


@dataclass
class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps all spans that it is sent. endpoint: for OTEL_EXPORTER_OTLP_ENDPOINT."""

    endpoint: str = ""
    _spans: list[ReceivedSpan] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def Export(  # noqa: N802 - the protocol's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        received = [
            _received(_attributes(resource.resource)["service.name"], span)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans += received
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self, trace_id: str | None = None) -> list[ReceivedSpan]:
        """Those of one trace, or all; in the order of their starts."""
        with self._lock:
            spans = [span for span in self._spans if trace_id in (None, span.trace_id)]
        return sorted(spans, key=lambda span: span.start_ns)


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    server = grpc.server(ThreadPoolExecutor(4))
    receiver = Receiver()
    register: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    register(receiver, server)
    receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(None).wait()


def _received(service: str, span: trace_pb2.Span) -> ReceivedSpan:
    return ReceivedSpan(
        service,
        span.name,
        trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        frozenset(link.span_id.hex() for link in span.links),
        _attributes(span),
        span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


def _attributes(of: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in of.attributes}


def tree(spans: list[ReceivedSpan], parent_id: str = "", depth: int = 0) -> list[str]:
    """A trace in lines, a span each, below the one that it is part of: `service: name (kind)`."""
    lines = []
    for span in spans:
        if span.parent_id == parent_id:
            lines.append(f"{'  ' * depth}{span.service}: {span.name} ({span.kind})")
            lines += tree(spans, span.span_id, depth + 1)
    return lines
