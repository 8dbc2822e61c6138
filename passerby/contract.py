"""What the contract fixes beyond the messages: keys and fields in Redis, gallery names, limits."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from google.protobuf.timestamp_pb2 import Timestamp

INGEST_STREAM = "passerby:ingest"
CONSUMER_GROUP = "indexer"
DEAD_LETTERS_STREAM = "passerby:dead-letters"
# Hash: gallery -> images and entries of it that are among the dead letters.
DEAD_LETTER_COUNTS = "passerby:dead-letter-counts"

# Hash: entry -> the key of the receipts of the push that waits for it. Receipts are a hash, too:
# entry -> what the indexer did with it (an Outcome and the ids of its dead letters).
AWAITED = "passerby:awaited"
RECEIPTS = "passerby:receipts:"

# Hash: gallery -> how far its last deletion goes (services/gallery/gallery_deletions.py).
GALLERY_DELETIONS = "passerby:gallery-deletions"

# A letter is counted as long as it is kept: both change in one step. Keys: DEAD_LETTERS_STREAM and
# DEAD_LETTER_COUNTS; arguments: the letter's id and its gallery.
REMOVE_DEAD_LETTER = """
local removed = redis.call('XDEL', KEYS[1], ARGV[1])
if removed == 1 and redis.call('HINCRBY', KEYS[2], ARGV[2], -1) <= 0 then
    redis.call('HDEL', KEYS[2], ARGV[2])
end
return removed
"""

DEFAULT_GALLERY = "default"
GALLERY_NAME = re.compile(r"[a-z0-9-]{1,63}")
GALLERY_RULE = "a gallery name has 1 to 63 characters: a-z, 0-9 and -"

MAX_FILENAME_BYTES = 4096
# Of one deletion, or one question for what is missing.
MAX_FILENAMES = 10_000
MAX_DIGEST_BYTES = 64
MAX_CAPTION_CHARACTERS = 2000
DEFAULT_TOP_K = 12
MAX_TOP_K = 1000
# Milvus answers no window past this one.
MAX_WINDOW = 16_384

# A Timestamp is a time of the years 1 to 9999; a binary message can carry numbers beyond them.
TIMESTAMP_SECONDS = range(-62_135_596_800, 253_402_300_800)
TIMESTAMP_NANOS = range(1_000_000_000)


def is_valid_timestamp(time: Timestamp) -> bool:
    """Whether it is a time of the years 1 to 9999, as its type demands."""
    return time.seconds in TIMESTAMP_SECONDS and time.nanos in TIMESTAMP_NANOS


class Outcome(StrEnum):
    """How an entry ended, apart from its dead letters."""

    DONE = "done"
    DELETED = "deleted"
    """With its gallery."""


@dataclass(frozen=True)
class DeadLetterEntry:
    """An entry of DEAD_LETTERS_STREAM: what was rejected, why, and what to push again."""

    reason: str
    gallery: str
    filename: str
    """Empty if the whole entry was rejected."""
    entry_id: bytes
    """The id that the entry had on INGEST_STREAM."""
    deliveries: int
    """How often the entry was delivered; at least 1."""
    retry_fields: Mapping[bytes, bytes]
    """The entry to add to INGEST_STREAM once the cause is fixed. Empty where it was too large to be
    kept, which the reason says."""

    def to_fields(self) -> dict[bytes, bytes]:
        return {
            b"reason": self.reason.encode(),
            b"gallery": self.gallery.encode(),
            b"filename": self.filename.encode(),
            b"entry_id": self.entry_id,
            b"deliveries": str(self.deliveries).encode(),
            **{_RETRY_PREFIX + name: value for name, value in self.retry_fields.items()},
        }

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> Self:
        """Fields that are missing, as in an entry written by hand, are empty or 0."""

        def text(name: bytes) -> str:
            return fields.get(name, b"").decode(errors="replace")

        not_kept = text(b"not_kept")
        return cls(
            reason=text(b"reason") + (f"; {not_kept}" if not_kept else ""),
            gallery=text(b"gallery"),
            filename=text(b"filename"),
            entry_id=fields.get(b"entry_id", b""),
            deliveries=int(fields.get(b"deliveries", b"0")),
            retry_fields={
                name.removeprefix(_RETRY_PREFIX): value
                for name, value in fields.items()
                if name.startswith(_RETRY_PREFIX)
            },
        )


_RETRY_PREFIX = b"entry."
