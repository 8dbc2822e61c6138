"""How a service traces: its last spans arrive, and a collector that is away holds nothing up."""

import contextlib
import logging
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from services.runtime import logs
from tests.support.otlp import receiving
from tests.support.processes import REPOSITORY

SERVICE = """
    from passerby import tracing
    from services.runtime.service import run
    from services.runtime.settings import ServiceSettings

    async def main(settings, stop):
        print("started", flush=True)
        await stop.wait()
        with tracing.entry("work", "server", {}, {}), tracing.leaf("HGET", {}):
            pass

    run("example", ServiceSettings, main)
"""


def ended(endpoint: str) -> tuple[float, str]:
    """(seconds from SIGTERM to its end, its log) of a service that makes spans last."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVICE)],
        cwd=REPOSITORY,
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    return time.monotonic() - started, log


def test_the_last_spans_are_sent_before_the_end() -> None:
    with receiving() as collector:
        ended(collector.endpoint)
        spans = collector.spans()
    assert [(span.service, span.name) for span in spans] == [
        ("passerby-example", "work"),
        ("passerby-example", "HGET"),
    ]


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_collector_does_not_hold_the_end_up_by_more_than_seconds() -> None:
    with silent() as endpoint:
        seconds, log = ended(endpoint)
    # Left to itself, OpenTelemetry waits for 10.
    assert seconds < 8
    assert "Traceback" not in log


def test_of_opentelemetrys_lines_one_is_logged_and_of_all_others_each(
    capfd: pytest.CaptureFixture[str],
) -> None:
    root = logging.getLogger()
    before = root.handlers, root.level
    try:
        logs.configure("example", form="json")
        for _ in range(3):
            logging.getLogger("opentelemetry.exporter").warning("the collector is away")
            logging.getLogger("aiohttp").warning("something else")
    finally:
        root.handlers, root.level = before
    log = capfd.readouterr().err
    assert log.count("the collector is away") == 1
    assert log.count("something else") == 3
