"""What the indexer counts and times."""

from prometheus_client import Counter, Gauge, Histogram

ENTRIES = Counter("passerby_indexer_entries", "Entries of the queue that were acknowledged.")
IMAGES = Counter("passerby_indexer_images", "Images that were indexed.")
DEAD_LETTERS = Counter(
    "passerby_indexer_dead_letters", "Images and entries that became dead letters."
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
STAGE_SECONDS = Histogram(
    "passerby_indexer_stage_seconds",
    "Time that a batch spends in a stage, retries included.",
    ["stage"],
)
