"""What an entry of the stream says: the images to index, and what is rejected and why. No I/O."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from passerby.contract import (
    DEFAULT_GALLERY,
    GALLERY_NAME,
    GALLERY_RULE,
    MAX_DIGEST_BYTES,
    MAX_FILENAME_BYTES,
    DeadLetterEntry,
    is_valid_timestamp,
)
from passerby.redaction import redacted
from passerby.v1.queue_pb2 import Image, ImageBatch
from services.gallery.filters import stored_key
from services.gallery.model_versions import MAX_CAMERA_BYTES, MAX_TAGS_BYTES
from services.indexer.entry_limits import CAMERA, DIGEST, FIELDS, FILENAME, IMAGES, TAGS, excess
from services.runtime.errors import first_line

# A dead letter keeps no more fields of an entry that has none of those it should have.
_KEPT_FIELDS = 100
_SHOWN_GALLERY = 100
_SPLIT = "push its images again in smaller entries, as `passerby push` does"


class InvalidImageEntry(Exception):
    """The pusher's fault: the reason that goes to the dead letters."""


@dataclass
class Entry:
    """One entry of the stream, while it is in flight."""

    id: bytes
    fields: Mapping[bytes, bytes]
    deliveries: int
    gallery: str = ""
    images: list[Image] = field(default_factory=list)
    dead_letters: list[DeadLetterEntry] = field(default_factory=list)
    trace_context: Mapping[str, str] = field(default_factory=dict)
    """Which trace it belongs to, see queue.proto."""
    deferred: bool = False
    """Whether it waits for a storage that does not answer, or for the end of a deletion: not
    finished, and not at fault."""
    discarded: bool = False
    """Whether it was deleted with its gallery."""

    def reject(self, reason: str) -> None:
        """Makes the whole entry a dead letter; none of its images is indexed."""
        kept = dict(list(self.fields.items())[:_KEPT_FIELDS])
        self.images = []
        self.dead_letters = [self._dead_letter(reason, "", kept)]

    def discard(self) -> None:
        """Finishes the entry without indexing anything of it."""
        self.images, self.dead_letters, self.discarded = [], [], True

    def reject_image(self, image: Image, reason: str) -> None:
        """Makes one image a dead letter; the entry's other images go on."""
        alone = ImageBatch(gallery=self.gallery, images=[image])
        fields = {b"batch": alone.SerializeToString()}
        self.dead_letters.append(self._dead_letter(reason, image.filename, fields))

    def _dead_letter(
        self, reason: str, filename: str, fields: Mapping[bytes, bytes]
    ) -> DeadLetterEntry:
        # The names may be anything at all; what they were stands in the fields.
        return DeadLetterEntry(
            redacted(reason),
            self.gallery[:_SHOWN_GALLERY],
            filename[:MAX_FILENAME_BYTES],
            self.id,
            self.deliveries,
            fields,
        )


def read_entry(entry_id: bytes, fields: Mapping[bytes, bytes], deliveries: int) -> Entry:
    """The entry with the images that may be indexed; the others are among its dead letters."""
    entry = Entry(entry_id, fields, deliveries)
    try:
        batch = _batch(fields)
    except InvalidImageEntry as invalid:
        entry.reject(str(invalid))
        return entry
    entry.gallery = batch.gallery or DEFAULT_GALLERY
    entry.trace_context = dict(batch.trace_context)
    if not GALLERY_NAME.fullmatch(entry.gallery):
        entry.reject(f"gallery {entry.gallery[:_SHOWN_GALLERY]!r}: {GALLERY_RULE}")
        return entry
    if not batch.images:
        entry.reject("the batch has no images")
    for image in batch.images:
        try:
            check_image(image)
        except InvalidImageEntry as invalid:
            entry.reject_image(image, str(invalid))
        else:
            entry.images.append(image)
    return entry


def _batch(fields: Mapping[bytes, bytes]) -> ImageBatch:
    if too_large := excess(fields):
        raise InvalidImageEntry(f"{too_large}; {_SPLIT}")
    batch = _parsed(fields)
    if len(batch.images) > IMAGES.value:
        raise InvalidImageEntry(f"{IMAGES.exceeded(len(batch.images))}; {_SPLIT}")
    return batch


def _parsed(fields: Mapping[bytes, bytes]) -> ImageBatch:
    if list(fields) == [b"batch"]:
        try:
            return ImageBatch.FromString(fields[b"batch"])
        except DecodeError as error:
            raise InvalidImageEntry(
                f"field batch is not a serialised passerby.v1.ImageBatch: {first_line(error)}"
            ) from None
    if list(fields) == [b"json"]:
        try:
            return json_format.Parse(fields[b"json"], ImageBatch())
        except (json_format.ParseError, ValueError, RecursionError) as error:
            raise InvalidImageEntry(
                f"field json is not a passerby.v1.ImageBatch in JSON: {first_line(error)}"
            ) from None
    names = ", ".join(repr(name.decode(errors="replace")[:50]) for name in list(fields)[:5])
    raise InvalidImageEntry(
        f"the entry has the fields {names}; it must have one, `batch` or `json`"
    )


def check_image(image: Image) -> None:
    """Raises InvalidImageEntry if nothing downstream could take the image."""
    size = len(image.filename.encode())
    if not 1 <= size <= MAX_FILENAME_BYTES:
        raise InvalidImageEntry(FILENAME.exceeded(size) if size else "filename: it is empty")
    if len(image.digest) > MAX_DIGEST_BYTES:
        raise InvalidImageEntry(f"{shown(image)}: {DIGEST.exceeded(len(image.digest))}")
    fields_bytes = image.ByteSize() - len(image.data)
    if fields_bytes > FIELDS.value:
        raise InvalidImageEntry(f"{shown(image)}: {FIELDS.exceeded(fields_bytes)}")
    if image.WhichOneof("source") is None:
        raise InvalidImageEntry(f"{shown(image)}: has neither data nor uri")
    camera_bytes = len(image.camera.encode())
    if camera_bytes > MAX_CAMERA_BYTES:
        raise InvalidImageEntry(f"{shown(image)}: {CAMERA.exceeded(camera_bytes)}")
    tags = {stored_key(key): value for key, value in image.tags.items()}
    tags_bytes = len(json.dumps(tags))
    if tags_bytes > MAX_TAGS_BYTES:
        raise InvalidImageEntry(f"{shown(image)}: {TAGS.exceeded(tags_bytes)}")
    if image.HasField("captured_at") and not is_valid_timestamp(image.captured_at):
        raise InvalidImageEntry(
            f"{shown(image)}: captured_at is not a time between the years 1 and 9999"
        )


def shown(image: Image) -> str:
    """The filename, short enough for a reason."""
    return image.filename if len(image.filename) <= 200 else f"{image.filename[:200]}..."
