"""What goes into the client and comes out of it, as plain dataclasses."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from passerby.v1 import queue_pb2, search_pb2


@dataclass(frozen=True)
class Image:
    """An image to index: its bytes, or a URI that the indexer may read."""

    filename: str
    """Identifies the image within its gallery: pushing it again replaces it."""
    data: bytes | None = None
    uri: str | None = None
    camera: str = ""
    captured_at: datetime | None = None
    """With a time zone."""
    tags: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""
    """Of what the uri names: changes with it, as an ETag does. Empty: not known, so the image is
    pushed each time."""

    def message(self) -> queue_pb2.Image:
        """Raises ValueError or TypeError for what a message cannot carry."""
        if (self.data is None) == (self.uri is None):
            raise ValueError("an image has either data or a uri")
        message = queue_pb2.Image(
            filename=self.filename,
            data=self.data,
            uri=self.uri,
            camera=self.camera,
            captured_at=timestamp(self.captured_at),
            tags=self.tags,
        )
        if self.uri is None or self.revision:
            message.digest = _digest(message, self.revision)
        return message


@dataclass(frozen=True)
class Filter:
    """Conditions that must all hold: any of the cameras, the period, all of the tags."""

    cameras: Sequence[str] = ()
    captured_from: datetime | None = None
    """At or after, with a time zone; images without a time do not match."""
    captured_to: datetime | None = None
    """Before, with a time zone; images without a time do not match."""
    tags: Mapping[str, str] = field(default_factory=dict)

    def message(self) -> search_pb2.Filter:
        """Raises ValueError for a time without a time zone."""
        return search_pb2.Filter(
            cameras=self.cameras,
            captured_from=timestamp(self.captured_from),
            captured_to=timestamp(self.captured_to),
            tags=self.tags,
        )


@dataclass(frozen=True)
class Hit:
    """An image that a search found."""

    filename: str
    score: float
    """Cosine similarity, -1 to 1."""
    camera: str
    captured_at: datetime | None
    tags: Mapping[str, str]

    @classmethod
    def from_message(cls, hit: search_pb2.Hit) -> "Hit":
        captured_at = moment(hit.captured_at) if hit.HasField("captured_at") else None
        return cls(hit.filename, hit.score, hit.camera, captured_at, dict(hit.tags))


@dataclass(frozen=True)
class Explanation:
    """How an answer came about."""

    unknown_words: tuple[str, ...]
    """Words of the caption that the model does not know and therefore ignores."""
    expression: str
    """The filter as Milvus evaluated it."""
    embed_took: timedelta
    search_took: timedelta
    resolve_took: timedelta

    @classmethod
    def from_message(cls, explanation: search_pb2.Explanation) -> "Explanation":
        return cls(
            tuple(explanation.unknown_words),
            explanation.expression,
            explanation.embed_took.ToTimedelta(),
            explanation.search_took.ToTimedelta(),
            explanation.resolve_took.ToTimedelta(),
        )


class Hits(list[Hit]):
    """The hits of one search, best first, and how they came about."""

    def __init__(self, response: search_pb2.SearchResponse) -> None:
        super().__init__(Hit.from_message(hit) for hit in response.hits)
        self.model = response.model
        self.took: timedelta = response.took.ToTimedelta()
        self.explanation = (
            Explanation.from_message(response.explanation)
            if response.HasField("explanation")
            else None
        )


@dataclass(frozen=True)
class Gallery:
    """A gallery as the query service sees it."""

    name: str
    count: int
    """Images that a search can find."""
    model: str
    pending: int
    """Entries of the queue, which all galleries share, that are not finished."""
    dead_letters: int
    """Images and entries that were rejected."""

    @classmethod
    def from_message(cls, gallery: search_pb2.Gallery) -> "Gallery":
        return cls(
            gallery.gallery, gallery.count, gallery.model, gallery.pending, gallery.dead_letters
        )


@dataclass(frozen=True)
class Failure:
    """An image that was not indexed, and why."""

    filename: str
    """Empty if a whole batch was rejected."""
    reason: str


@dataclass(frozen=True)
class Progress:
    """How far a push has come."""

    queued: int
    """Images on the queue so far."""
    searchable: int
    """Of these, what a search finds so far."""
    failures: tuple[Failure, ...]
    """What was rejected, by the client or by the indexer."""
    unchanged: int = 0
    """Images that were searchable before with the same content, and so not queued."""


@dataclass(frozen=True)
class DeadLetter:
    """Something that the indexer rejected, kept with the reason."""

    id: str
    gallery: str
    filename: str
    """Empty if a whole entry was rejected."""
    reason: str
    entry_id: str
    """The id that it had on the queue."""
    deliveries: int
    kept: bool = True
    """Whether it can be put on the queue again; else its bytes were too many to be kept."""


def timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError(f"{time.isoformat()} has no time zone; add one, for example tzinfo=UTC")
    result = Timestamp()
    result.FromDatetime(time)
    return result


def _digest(image: queue_pb2.Image, revision: str) -> bytes:
    """16 bytes, the same for images with the same content and fields. Not of the message's own
    bytes, which a release of protobuf may order differently."""
    time = image.captured_at.ToMicroseconds() if image.HasField("captured_at") else None
    fields = [image.uri, revision, image.camera, time, sorted(image.tags.items())]
    digest = hashlib.blake2b(json.dumps(fields).encode(), digest_size=16)
    digest.update(b"\0" + image.data)
    return digest.digest()


def moment(time: Timestamp) -> datetime:
    return time.ToDatetime(tzinfo=UTC)
