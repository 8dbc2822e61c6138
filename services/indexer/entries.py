"""What an entry of the stream says: the images to index, and what is refused and why. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from passerby.contract import (
    DEFAULT_GALLERY,
    GALLERY_NAME,
    GALLERY_RULE,
    MAX_FILENAME_BYTES,
)
from passerby.v1.queue_pb2 import Image, ImageBatch
from services.gallery.filters import stored_key
from services.gallery.model_versions import MAX_CAMERA_BYTES, MAX_TAGS_BYTES
from services.runtime.errors import first_line

# From the year 1 to 9999, all that a Timestamp may be.
_SECONDS = range(-62_135_596_800, 253_402_300_800)
_NANOSECONDS = range(1_000_000_000)
# A dead letter keeps no more fields of an entry that has none of those it should have.
_KEPT_FIELDS = 100


class Refused(Exception):
    """The pusher's fault: the reason that goes to the dead letters."""


@dataclass(frozen=True)
class DeadLetter:
    """An image or entry that cannot be indexed, with what to push again."""

    reason: str
    gallery: str
    filename: str
    fields: Mapping[bytes, bytes]


@dataclass
class Entry:
    """One entry of the stream, while it is in hand."""

    id: bytes
    fields: Mapping[bytes, bytes]
    deliveries: int
    gallery: str = ""
    images: list[Image] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)

    def refuse(self, reason: str) -> None:
        """Puts the whole entry aside; none of its images is indexed."""
        kept = dict(list(self.fields.items())[:_KEPT_FIELDS])
        self.images = []
        self.letters = [DeadLetter(reason, self.gallery, "", kept)]

    def refuse_image(self, image: Image, reason: str) -> None:
        alone = ImageBatch(gallery=self.gallery, images=[image])
        self.letters.append(
            DeadLetter(reason, self.gallery, image.filename, {b"batch": alone.SerializeToString()})
        )


def read_entry(entry_id: bytes, fields: Mapping[bytes, bytes], deliveries: int) -> Entry:
    """The entry with the images that may be indexed; the others are among its letters."""
    entry = Entry(entry_id, fields, deliveries)
    try:
        batch = _batch(fields)
    except Refused as refused:
        entry.refuse(str(refused))
        return entry
    entry.gallery = batch.gallery or DEFAULT_GALLERY
    if not GALLERY_NAME.fullmatch(entry.gallery):
        entry.refuse(f"gallery {entry.gallery[:100]!r}: {GALLERY_RULE}")
        return entry
    if not batch.images:
        entry.refuse("the batch has no images")
    for image in batch.images:
        try:
            check_image(image)
        except Refused as refused:
            entry.refuse_image(image, str(refused))
        else:
            entry.images.append(image)
    return entry


def _batch(fields: Mapping[bytes, bytes]) -> ImageBatch:
    if list(fields) == [b"batch"]:
        try:
            return ImageBatch.FromString(fields[b"batch"])
        except DecodeError as error:
            raise Refused(
                f"field batch is no serialised passerby.v1.ImageBatch: {first_line(error)}"
            ) from None
    if list(fields) == [b"json"]:
        try:
            return json_format.Parse(fields[b"json"], ImageBatch())
        except (json_format.ParseError, ValueError, RecursionError) as error:
            raise Refused(
                f"field json is no passerby.v1.ImageBatch in JSON: {first_line(error)}"
            ) from None
    names = ", ".join(repr(name.decode(errors="replace")[:50]) for name in list(fields)[:5])
    raise Refused(f"the entry has the fields {names}; it must have one, `batch` or `json`")


def check_image(image: Image) -> None:
    """Raises Refused if nothing downstream could take the image."""
    size = len(image.filename.encode())
    if not 1 <= size <= MAX_FILENAME_BYTES:
        raise Refused(f"filename has {size} bytes; 1 to {MAX_FILENAME_BYTES:,} are allowed")
    if image.WhichOneof("source") is None:
        raise Refused(f"{shown(image)}: has neither data nor uri")
    if len(image.camera.encode()) > MAX_CAMERA_BYTES:
        raise Refused(f"{shown(image)}: camera has more than {MAX_CAMERA_BYTES} bytes of UTF-8")
    tags = {stored_key(key): value for key, value in image.tags.items()}
    if len(json.dumps(tags)) > MAX_TAGS_BYTES:
        raise Refused(f"{shown(image)}: tags have more than {MAX_TAGS_BYTES:,} bytes as JSON")
    if image.HasField("captured_at") and not _exists(image.captured_at):
        raise Refused(f"{shown(image)}: captured_at is no time between the years 1 and 9999")


def _exists(time: Timestamp) -> bool:
    return time.seconds in _SECONDS and time.nanos in _NANOSECONDS


def shown(image: Image) -> str:
    """The filename, short enough for a reason."""
    return image.filename if len(image.filename) <= 200 else f"{image.filename[:200]}..."
