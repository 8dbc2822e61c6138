"""Traces where several meet: a batch of entries, a forward pass for many, an application's own."""

import secrets

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis import Redis

from passerby import Client, Image, tracing
from passerby.contract import INGEST_STREAM
from passerby.v1 import queue_pb2
from tests.support.stores import entries


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Tracing is on, and this has the spans that have ended."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    monkeypatch.setattr(tracing, "_tracer", None)
    tracing.follow_application()
    return exporter


class Pusher:
    """Whose trace an entry belongs to."""

    def __init__(self, *, sampled: bool = True) -> None:
        self.trace_id, self.span_id = secrets.token_hex(16), secrets.token_hex(8)
        flags = "01" if sampled else "00"
        self.carrier = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{flags}"}


def ids(span: ReadableSpan) -> tuple[str, str]:
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def linked(span: ReadableSpan) -> set[str]:
    return {f"{link.context.span_id:016x}" for link in span.links}


def worked_on(*carriers: dict[str, str]) -> None:
    members = [(carrier, {"number": number}) for number, carrier in enumerate(carriers)]
    with tracing.batch("process", "consumer", members, {}), tracing.step("embed"):
        pass


def test_a_batch_is_in_the_trace_of_each_entry_and_its_steps_in_the_first(
    exporter: InMemorySpanExporter,
) -> None:
    one, other = Pusher(), Pusher()
    worked_on(one.carrier, other.carrier)
    step, beside, first = exporter.get_finished_spans()
    assert [span.name for span in (step, beside, first)] == ["embed", "process", "process"]
    assert [ids(span)[0] for span in (step, first, beside)] == [
        one.trace_id,
        one.trace_id,
        other.trace_id,
    ]
    assert step.parent is not None
    assert f"{step.parent.span_id:016x}" == ids(first)[1]
    assert linked(first) == {other.span_id}
    assert linked(beside) == {ids(first)[1]}


@pytest.mark.parametrize("carrier", [{}, {"traceparent": "garbage"}], ids=str)
def test_entries_without_a_trace_begin_one_together(
    exporter: InMemorySpanExporter, carrier: dict[str, str]
) -> None:
    worked_on(carrier, carrier)
    step, first = exporter.get_finished_spans()
    assert first.parent is None
    assert ids(step)[0] == ids(first)[0]


def test_the_steps_go_into_a_trace_that_is_kept(exporter: InMemorySpanExporter) -> None:
    kept = Pusher()
    worked_on(Pusher(sampled=False).carrier, kept.carrier)
    found = [(span.name, ids(span)[0]) for span in exporter.get_finished_spans()]
    assert found == [("embed", kept.trace_id), ("process", kept.trace_id)]


def test_a_batch_that_fails_failed_for_each_of_its_entries(exporter: InMemorySpanExporter) -> None:
    carriers = [Pusher().carrier, Pusher().carrier]
    with (
        pytest.raises(KeyError),
        tracing.batch("process", "consumer", [(carrier, {}) for carrier in carriers], {}),
    ):
        raise KeyError
    for span in exporter.get_finished_spans():
        assert span.status.status_code is trace.StatusCode.ERROR
        assert dict(span.attributes or {}) == {"error.type": "KeyError"}


def test_a_forward_pass_is_told_to_each_caller_once(exporter: InMemorySpanExporter) -> None:
    with tracing.entry("a", "server", {}, {}):
        one = tracing.current()
    with tracing.entry("b", "server", {}, {}):
        other = tracing.current()
    assert one
    assert other
    exporter.clear()
    tracing.shared("forward", [one, other, None, one], 0.25, {})
    first, second = exporter.get_finished_spans()
    assert [ids(span)[0] for span in (first, second)] == [
        f"{caller.trace_id:032x}" for caller in (one, other)
    ]
    assert linked(first) == {f"{other.span_id:016x}"}
    assert linked(second) == {ids(first)[1]}
    for span in (first, second):
        assert span.end_time is not None
        assert span.start_time is not None
        assert span.end_time - span.start_time == 250_000_000


def test_what_no_trace_asked_for_makes_no_span(exporter: InMemorySpanExporter) -> None:
    """Probes ask Redis, Milvus and the embedder every second."""
    with tracing.step("PING", "client"):
        assert tracing.carried() == {}
    assert exporter.get_finished_spans() == ()


def test_a_push_goes_on_with_the_applications_trace(
    exporter: InMemorySpanExporter, redis_url: str
) -> None:
    with Client(redis_url=redis_url) as client, tracing.entry("nightly import", "internal", {}, {}):
        client.push([Image("1.jpg", b"1")], wait=False)
    sent, application = exporter.get_finished_spans()
    assert ids(sent)[0] == ids(application)[0]
    with Redis.from_url(redis_url) as redis:
        ((_, fields),) = entries(redis, INGEST_STREAM)
    carried = queue_pb2.ImageBatch.FromString(fields[b"batch"]).trace_context
    assert tuple(carried["traceparent"].split("-")[1:3]) == ids(sent)
