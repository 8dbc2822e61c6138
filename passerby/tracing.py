"""Traces by OpenTelemetry: which steps are spans, and how their context reaches the next process.

Off, and free, until `start`, or until the application that uses the client traces by itself
(`follow_application`): only then is OpenTelemetry imported here. Spans are made by hand where the
steps are: the packages that instrument grpc, redis and aiohttp are betas, they patch what they
trace, and they know neither Milvus nor this queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from opentelemetry.trace import Span as Span
    from opentelemetry.trace import SpanContext as SpanContext

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Carrier = Mapping[str, str]
"""What carries a context from process to process, in W3C's form: traceparent and the like."""
Attributes = Mapping[str, str | int | float]

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
# How long the last spans may hold up the end of a process.
_FLUSH_S = 2.0
_OFF = contextlib.nullcontext()

# What makes spans; None while tracing is off.
_tracer: Any = None
# How long spans wait to be made, and those that do.
_LATER_S = 0.02
_waiting: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

# gRPC's statuses that are the server's own fault.
_SERVER_FAULTS = frozenset(
    ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"]
)


def start(service: str) -> Callable[[], None]:
    """Turns tracing on for this process, by the standard OTEL_* variables; returns what ends it.

    The end sends the last spans, and is over within some 2 s whether a collector takes them or not.
    """
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    ours = Resource({"service.name": service, "service.instance.id": socket.gethostname()})
    resource = Resource.create().merge(ours).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    follow_application()

    def stop() -> None:
        _catch_up()
        # The processor would wait 30 s for an export; without its exporter it gives up.
        limit = threading.Timer(_FLUSH_S, exporter.shutdown)
        limit.daemon = True
        limit.start()
        provider.shutdown()
        limit.cancel()

    return stop


def follow_application() -> None:
    """Turns tracing on if this process has set OpenTelemetry up."""
    global _tracer
    trace = sys.modules.get("opentelemetry.trace")
    if trace and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        _tracer = trace.get_tracer("passerby")


def is_on() -> bool:
    return _tracer is not None


def entry(
    name: str, kind: Kind, carrier: Carrier | None, attributes: Attributes
) -> contextlib.AbstractContextManager[Span | None]:
    """A span that begins a process's part of a trace: the next one of the carrier's trace or, if
    that has none, the first one of a new trace. Without a carrier, below the present span."""
    if not is_on():
        return _OFF
    from opentelemetry import propagate

    context = None if carrier is None else propagate.extract(carrier)
    return _span(name, kind, attributes, context)


def step(
    name: str, kind: Kind = "internal", attributes: Attributes | None = None
) -> contextlib.AbstractContextManager[Span | None]:
    """A span below the present one; none where there is no present one, as in a health probe."""
    return _span(name, kind, attributes) if current() else _OFF


def leaf(name: str, attributes: Attributes) -> contextlib.AbstractContextManager[None]:
    """As `step`, for a call to another system: no span is to be below it."""
    caller = current()
    return _Leaf(name, attributes, caller) if caller else _OFF


class _Leaf:
    __slots__ = ("_attributes", "_caller", "_name", "_start")

    def __init__(self, name: str, attributes: Attributes, caller: SpanContext) -> None:
        self._name, self._attributes, self._caller = name, attributes, caller

    def __enter__(self) -> None:
        self._start = time.time_ns()

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        why = error.__name__ if error else ""
        end = time.time_ns()
        _later(_told, self._caller, self._name, "client", self._attributes, self._start, end, why)


def _told(
    caller: SpanContext,
    name: str,
    kind: Kind,
    attributes: Attributes,
    start: int,
    end: int,
    why: str = "",
    links: Sequence[Any] = (),
) -> Span:
    """A span below the caller's, of what is over already; why: it failed."""
    from opentelemetry import trace

    below = trace.set_span_in_context(trace.NonRecordingSpan(caller))
    span: Span = _tracer.start_span(
        name, below, trace.SpanKind[kind.upper()], attributes, links, start
    )
    if why:
        _failed(span, why)
    span.end(end)
    return span


def _later(make: Callable[..., object], *of: Any) -> None:
    """Has spans made a moment later: each takes as long as a small step of a search, and the
    caller should not wait for it."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        make(*of)
        return
    if not _waiting:
        loop.call_later(_LATER_S, _catch_up)
    _waiting.append((make, of))


def _catch_up() -> None:
    made, _waiting[:] = _waiting[:], []
    for make, of in made:
        make(*of)


class _span:  # noqa: N801 - used as a function; a generator would cost a tenth of a span more
    """A span that is the present one within its body."""

    __slots__ = ("_kind", "_span", "_token")

    def __init__(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes | None,
        context: Any = None,
        links: Sequence[Any] = (),
    ) -> None:
        from opentelemetry.trace import SpanKind

        self._kind = kind
        self._span: Span = _tracer.start_span(
            name, context, SpanKind[kind.upper()], attributes, links
        )

    def __enter__(self) -> Span:
        from opentelemetry.context import attach
        from opentelemetry.trace import set_span_in_context

        self._token = attach(set_span_in_context(self._span))
        return self._span

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        from opentelemetry.context import detach

        detach(self._token)
        # A server tells by its answer whether it failed: see `answered`.
        if error is not None and self._kind != "server":
            _failed(self._span, error.__name__)
        self._span.end()


def _failed(span: Span, why: str) -> None:
    from opentelemetry import trace

    span.set_attribute("error.type", why)
    span.set_status(trace.StatusCode.ERROR)


@contextlib.contextmanager
def batch(
    name: str, kind: Kind, members: Iterable[tuple[Carrier, Attributes]], attributes: Attributes
) -> Iterator[None]:
    """A span in the trace of each member of a batch, for work that is done for all of them at once.

    What happens within belongs to the first member that is sampled: its span links to what the
    others come from, and theirs link to it.
    """
    if not is_on():
        yield
        return
    from opentelemetry import propagate, trace

    contexts = [(propagate.extract(carrier), own) for carrier, own in members]
    known = [
        (context, trace.get_current_span(context).get_span_context(), own)
        for context, own in contexts
    ]
    traced = [member for member in known if member[1].is_valid] or known[:1]
    traced.sort(key=lambda member: not member[1].trace_flags.sampled)
    (context, _, own), others = traced[0], traced[1:]
    links = [trace.Link(other) for _, other, _ in others]
    with _span(name, kind, {**attributes, **own}, context, links) as first:
        link = [trace.Link(first.get_span_context())]
        beside = [
            _tracer.start_span(
                name, context, trace.SpanKind[kind.upper()], {**attributes, **own}, link
            )
            for context, _, own in others
        ]
        try:
            yield
        except BaseException as error:
            for span in beside:
                _failed(span, type(error).__name__)
            raise
        finally:
            for span in beside:
                span.end()


def shared(
    name: str, callers: Iterable[SpanContext | None], seconds: float, attributes: Attributes
) -> None:
    """Tells each caller's trace of a step that has just ended and was done for all at once; the
    first one's span links to the other callers, and theirs link to it."""
    distinct = list({caller.span_id: caller for caller in callers if caller}.values())
    if distinct:
        end = time.time_ns()
        _later(_tell_each, distinct, name, attributes, end - int(1e9 * seconds), end)


def _tell_each(
    callers: Sequence[SpanContext], name: str, attributes: Attributes, start: int, end: int
) -> None:
    from opentelemetry.trace import Link

    first, *others = callers
    links = [Link(other) for other in others]
    span = _told(first, name, "internal", attributes, start, end, links=links)
    for other in others:
        link = [Link(span.get_span_context())]
        _told(other, name, "internal", attributes, start, end, links=link)


def answered(span: Span | None, code: str) -> None:
    """Says with which gRPC status a server answers."""
    if span:
        span.set_attribute("rpc.response.status_code", code)
        if code in _SERVER_FAULTS:
            _failed(span, code)


def answered_http(span: Span | None, route: str, status: int) -> None:
    """Says with which HTTP status a server answers."""
    if span:
        span.set_attributes({"http.route": route, "http.response.status_code": status})
        if status >= 500:
            _failed(span, str(status))


def current() -> SpanContext | None:
    """The present span; None while there is none."""
    if not is_on():
        return None
    from opentelemetry import trace

    context: SpanContext = trace.get_current_span().get_span_context()
    return context if context.is_valid else None


def carried() -> dict[str, str]:
    """The present context, for a carrier to the next process; empty while there is none."""
    carrier: dict[str, str] = {}
    if current():
        from opentelemetry import propagate

        propagate.inject(carrier)
    return carrier


def metadata() -> tuple[tuple[str, str], ...] | None:
    """The present context as a gRPC call carries it."""
    return tuple(carried().items()) or None


def ids() -> dict[str, str]:
    """trace_id and span_id of the present span, in hexadecimal; empty while there is none."""
    return ids_of(current())


def ids_of(context: SpanContext | None) -> dict[str, str]:
    if context is None:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def exemplar(context: SpanContext | None = None) -> dict[str, str] | None:
    """What a measurement tells of the trace (by default the present one) that it is an example
    of; None if nobody keeps that trace."""
    context = context or current()
    return ids_of(context) if context and context.trace_flags.sampled else None
