"""Milvus wants integers: the ids that a filename may have, and where its name is kept."""

import hashlib

# A free id is found among these, or the name is refused: with 63-bit hashes the second is
# needed about once in a gallery of four billion images, the fifth never.
CANDIDATES = 4
BUCKET_BITS = 18
_REST_BITS = 63 - BUCKET_BITS


def candidate_ids(gallery: str, filename: str) -> list[int]:
    """The fixed sequence of ids (63 bits each) that this image may get; the first is the rule."""
    text = gallery.encode() + b"\0" + filename.encode()
    return [
        int.from_bytes(hashlib.blake2b(bytes([k]) + text, digest_size=8).digest(), "big") >> 1
        for k in range(CANDIDATES)
    ]


def bucket_and_field(id_: int) -> tuple[int, bytes]:
    """Which hash holds the name of an id, and under which field.

    100 million names make about 380 a bucket, which Redis stores as one compact list; the field
    leaves out what the bucket already says and leading zeros.
    """
    rest = id_ & ((1 << _REST_BITS) - 1)
    return id_ >> _REST_BITS, rest.to_bytes((rest.bit_length() + 7) // 8, "big")
