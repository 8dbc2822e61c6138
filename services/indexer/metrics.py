"""What the indexer counts and times."""

from prometheus_client import Counter, Gauge, Histogram

ENTRIES = Counter("passerby_indexer_entries", "Entries of the queue that are finished.")
IMAGES = Counter("passerby_indexer_images", "Images that were indexed.")
DEAD_LETTERS = Counter("passerby_indexer_dead_letters", "Images and entries that were refused.")
POSTPONED = Counter(
    "passerby_indexer_postponed", "Deliveries of entries whose images could not be read in time."
)
RETRIES = Counter(
    "passerby_indexer_retries", "Attempts that failed because a dependency was away or full."
)
QUEUE_ENTRIES = Gauge("passerby_queue_entries", "Entries of the queue that are not finished.")
QUEUE_PENDING = Gauge(
    "passerby_queue_pending", "Entries that some indexer has in hand, or had when it died."
)
STAGE_SECONDS = Histogram(
    "passerby_indexer_stage_seconds",
    "Time that a batch spends in a stage, waiting for dependencies included.",
    ["stage"],
)
