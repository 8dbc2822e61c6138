"""What the indexer counts and times."""

import contextlib
import time
from collections.abc import Iterator
from typing import Literal, get_args

from prometheus_client import Counter, Gauge, Histogram

from passerby import tracing

ENTRIES = Counter("passerby_indexer_entries", "Entries of the queue that were acknowledged.")
IMAGES = Counter("passerby_indexer_images", "Images that were indexed.")
DEAD_LETTERS = Counter(
    "passerby_indexer_dead_letters", "Images and entries that became dead letters."
)
DEAD_LETTERS_DROPPED = Counter(
    "passerby_indexer_dead_letters_dropped", "Dead letters that had to go, as there were too many."
)
DEFERRED = Counter(
    "passerby_indexer_postponed", "Deliveries of entries whose images could not be read in time."
)
RETRIES = Counter(
    "passerby_indexer_retries",
    "Attempts that failed because a dependency was unavailable or overloaded.",
)
QUEUE_ENTRIES = Gauge(
    "passerby_queue_entries", "Entries of the queue that are not acknowledged yet."
)
QUEUE_PENDING = Gauge(
    "passerby_queue_pending", "Entries that an indexer has in flight, or had when it died."
)
QUEUE_OLDEST = Gauge(
    "passerby_queue_oldest_seconds",
    "How long ago the oldest entry that is not acknowledged was pushed; 0 without one.",
)
STAGE_SECONDS = Histogram(
    "passerby_indexer_stage_seconds",
    "Time that a batch spends in a stage, retries included.",
    ["stage"],
)
Stage = Literal["fetch", "embed", "names", "images", "vectors"]
# From the start, at 0: of a series that begins with its first event `rate` misses that one.
for _stage in get_args(Stage):
    STAGE_SECONDS.labels(_stage)


@contextlib.contextmanager
def stage(name: Stage) -> Iterator[None]:
    """The body is a stage: timed, and a span of the batch's trace."""
    start = time.perf_counter()
    with tracing.step(name):
        try:
            yield
        finally:
            STAGE_SECONDS.labels(name).observe(time.perf_counter() - start, tracing.exemplar())
