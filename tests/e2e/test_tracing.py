"""A search and a push are one trace each, from the caller to the stores and back."""

import contextlib
import importlib
import itertools
import json
import os
import pkgutil
import secrets
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import pytest
from opentelemetry.semconv import attributes as stable
from opentelemetry.semconv._incubating import attributes as unstable

from deploy.local.stack import Stack
from passerby.v1 import search_pb2, search_pb2_grpc
from tests.support.otlp import ReceivedSpan, Receiver, tree
from tests.support.processes import wait_until
from tests.support.stack import People, program

GALLERY = "traced"
SEARCH = """
  passerby-query: find gallery traced (client)
  passerby-query: passerby.v1.Embedder/EmbedCaptions (client)
    passerby-embedder: passerby.v1.Embedder/EmbedCaptions (server)
      passerby-embedder: forward captions (internal)
  passerby-query: search gallery traced (client)
  passerby-query: PIPELINE HGET (client)
  passerby-query: find gallery traced (client)
"""
PUSH = """
passerby-push: send passerby:ingest (producer)
  passerby-indexer: process passerby:ingest (consumer)
    passerby-indexer: HMGET (client)
    passerby-indexer: list collections (client)
    passerby-indexer: fetch (internal)
    passerby-indexer: embed (internal)
      passerby-indexer: passerby.v1.Embedder/EmbedImages (client)
        passerby-embedder: passerby.v1.Embedder/EmbedImages (server)
          passerby-embedder: forward images (internal)
    passerby-indexer: names (internal)
      passerby-indexer: PIPELINE HGET (client)
      passerby-indexer: HSETNX (client)
    passerby-indexer: images (internal)
    passerby-indexer: vectors (internal)
      passerby-indexer: make collection vectors_VERSION_traced (client)
      passerby-indexer: write to vectors_VERSION_traced (client)
      passerby-indexer: query vectors_VERSION_traced (client)
      passerby-indexer: find gallery traced (client)
    passerby-indexer: names (internal)
      passerby-indexer: PIPELINE HGET (client)
    passerby-indexer: names (internal)
      passerby-indexer: HSET (client)
    passerby-indexer: XACK (client)
"""


class Caller:
    """Who begins a trace: its id, and what is sent along."""

    def __init__(self) -> None:
        self.trace_id, self.span_id = secrets.token_hex(16), secrets.token_hex(8)
        self.traceparent = f"00-{self.trace_id}-{self.span_id}-01"


def whole(
    collector: Receiver, trace_id: str, expected: str, begun_by: str = ""
) -> list[ReceivedSpan]:
    """The trace, once as many lines of it have come as are expected, or as it is after 20 s."""

    def has_come() -> bool:
        lines = distinct(tree(collector.spans(trace_id), begun_by)).splitlines()
        return len(lines) >= len(expected.strip().splitlines())

    with contextlib.suppress(TimeoutError):
        wait_until(has_come, f"the whole of {trace_id}", timeout_s=20)
    return collector.spans(trace_id)


def distinct(lines: list[str]) -> str:
    """A request may take several forward passes."""
    return "\n".join(line for line, _ in itertools.groupby(lines))


@pytest.fixture(scope="module")
def pushed(
    stack: Stack, people: People, collector: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> list[ReceivedSpan]:
    """The trace of a push of five images by the command line."""
    data_set = people.data_set(tmp_path_factory.mktemp("traced"), people.records[:5])
    environment = {
        **os.environ,
        "PASSERBY_QUERY": stack.query,
        "REDIS_URL": stack.redis_url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
    }
    command = Path(sys.executable).with_name("passerby")
    subprocess.run(
        [command, "push", data_set, "--gallery", GALLERY], env=environment, check=True, timeout=60
    )
    (sent,) = [span for span in collector.spans() if span.service == "passerby-push"]
    return whole(collector, sent.trace_id, PUSH)


def test_a_push_is_one_trace_over_the_queue_to_the_acknowledgement(
    pushed: list[ReceivedSpan],
) -> None:
    lines = distinct(tree(pushed))
    (version,) = {span.name.split("vectors_")[1][:12] for span in pushed if "vectors_" in span.name}
    assert lines == PUSH.replace("VERSION", version).strip()
    assert not any(span.failed for span in pushed)
    (process,) = [span for span in pushed if span.name == "process passerby:ingest"]
    ends = [span.end_ns for span in pushed if span.service == "passerby-indexer"]
    assert process.end_ns == max(ends)


def test_a_search_over_http_is_one_trace_that_its_log_line_and_an_exemplar_name(
    stack: Stack, pushed: list[ReceivedSpan], collector: Receiver
) -> None:
    caller = Caller()
    body = json.dumps({"gallery": GALLERY, "caption": "a man with a bag"}).encode()
    headers = {"Content-Type": "application/json", "traceparent": caller.traceparent}
    with urllib.request.urlopen(
        urllib.request.Request(f"{stack.page}v1/search", body, headers)
    ) as answer:
        assert answer.status == 200
    expected = f"passerby-query: POST /v1/search (server)\n{SEARCH.strip(chr(10))}"
    spans = whole(collector, caller.trace_id, expected, caller.span_id)
    assert distinct(tree(spans, caller.span_id)) == expected

    query = program(stack, "query")
    lines = [line for line in stack.log(query).read_text().splitlines() if "searched" in line]
    assert any(caller.trace_id in line for line in lines)
    asked = urllib.request.Request(
        f"http://127.0.0.1:{stack.environment['QUERY_METRICS_PORT']}/metrics",
        headers={"Accept": "application/openmetrics-text; version=1.0.0"},
    )
    with urllib.request.urlopen(asked) as answer:
        samples = answer.read().decode().splitlines()
    named = [line.partition("{")[0] for line in samples if caller.trace_id in line]
    assert {"passerby_http_seconds_bucket", "passerby_search_step_seconds_bucket"} <= {*named}


def test_a_search_over_grpc_is_one_trace(
    stack: Stack, pushed: list[ReceivedSpan], collector: Receiver
) -> None:
    caller = Caller()
    with grpc.insecure_channel(stack.query) as channel:
        search_pb2_grpc.SearchStub(channel).Search(
            search_pb2.SearchRequest(gallery=GALLERY, caption="a woman in a coat"),
            timeout=30,
            metadata=(("traceparent", caller.traceparent),),
        )
    expected = f"passerby-query: passerby.v1.Search/Search (server)\n{SEARCH.strip(chr(10))}"
    spans = whole(collector, caller.trace_id, expected, caller.span_id)
    assert distinct(tree(spans, caller.span_id)) == expected


def test_attributes_have_the_names_of_the_semantic_conventions(
    pushed: list[ReceivedSpan], collector: Receiver
) -> None:
    known = {
        value
        for package in (stable, unstable)
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
        for value in vars(importlib.import_module(module.name)).values()
        if isinstance(value, str)
    }
    used = {name for span in collector.spans() for name in span.attributes}
    assert {"rpc.method", "http.route", "db.system.name", "messaging.system"} <= used
    assert {name for name in used if not name.startswith("passerby.")} <= known
