"""What an entry of the queue may be, checked before it costs memory. No I/O."""

from collections.abc import Mapping

from passerby.contract import MAX_DIGEST_BYTES, MAX_FILENAME_BYTES
from passerby.limits import Limit
from services.gallery.model_versions import MAX_CAMERA_BYTES, MAX_TAGS_BYTES

_REJECTED = "dead letter of that image"
_WHOLE = "dead letter of the whole entry"
IMAGES = Limit("images of an entry", 1024, "images", _WHOLE)
# Of all fields together. `passerby push` makes entries of 64 images and 4 MiB, or of one image.
BYTES = Limit("entry", 64 * 1024 * 1024, "bytes", _WHOLE)
# As Python's objects, JSON takes up to thirty times as much memory.
JSON_BYTES = Limit("entry in JSON", 8 * 1024 * 1024, "bytes", _WHOLE)
FILENAME = Limit("filename", MAX_FILENAME_BYTES, "bytes", _REJECTED)
DIGEST = Limit("digest", MAX_DIGEST_BYTES, "bytes", _REJECTED)
CAMERA = Limit("camera", MAX_CAMERA_BYTES, "bytes", _REJECTED)
TAGS = Limit("tags", MAX_TAGS_BYTES, "bytes as JSON", _REJECTED)
# All of an image but its bytes; far more than the limits above add up to.
FIELDS = Limit("fields beside the bytes", 256 * 1024, "bytes", _REJECTED)
LIMITS = (IMAGES, BYTES, JSON_BYTES, FILENAME, DIGEST, CAMERA, TAGS, FIELDS)

# Fields of a message that are no images: a gallery, a trace context.
_OTHER_FIELDS = 100
_IMAGES_FIELD = 2
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


def excess(fields: Mapping[bytes, bytes]) -> str:
    """Why the entry is too large to be read; empty if it is not."""
    size = sum(len(name) + len(value) for name, value in fields.items())
    if size > BYTES.value:
        return BYTES.exceeded(size)
    if b"json" in fields and size > JSON_BYTES.value:
        return JSON_BYTES.exceeded(size)
    images, others = _count(fields.get(b"batch", b""))
    if images > IMAGES.value or others > _OTHER_FIELDS:
        return IMAGES.exceeded()
    return ""


def _count(message: bytes) -> tuple[int, int]:
    """Images and other fields of a serialised batch, as far as they are allowed.

    Its parser takes 50 times the bytes of an image without fields, so this comes first. What is no
    message is not counted: the parser says what is wrong with it.
    """
    images = others = at = 0
    while at < len(message) and images <= IMAGES.value and others <= _OTHER_FIELDS:
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _BYTES:
            length, at = _varint(message, at)
            at += length
        elif kind in (_FIXED_64, _FIXED_32):
            at += 8 if kind == _FIXED_64 else 4
        else:
            break
        if key == _IMAGES_FIELD << 3 | _BYTES:
            images += 1
        else:
            others += 1
    return images, others


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number there, and what comes after it."""
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return value, at
