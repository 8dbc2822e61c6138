"""Calls to Milvus and Redis, measured and traced in one place."""

import contextlib
import time
from collections.abc import Iterator
from typing import Literal

from prometheus_client import Histogram

from passerby import tracing

SECONDS = Histogram(
    "passerby_store_seconds",
    "Time of a call to Milvus or Redis, also of one that fails; a call may be several requests.",
    ["store", "call"],
)


@contextlib.contextmanager
def store_call(store: Literal["milvus", "redis"], call: str, summary: str) -> Iterator[None]:
    """The body is a call; within a trace it is a span named by its summary."""
    start = time.perf_counter()
    with tracing.leaf(summary, {"db.system.name": store, "db.operation.name": call}):
        try:
            yield
        finally:
            SECONDS.labels(store, call).observe(time.perf_counter() - start)
