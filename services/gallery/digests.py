"""What was indexed under each name, in 8 bytes of Redis: whether a push would change anything."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from redis.asyncio import Redis

from services.gallery.ids import BUCKET_BITS, bucket_and_field
from services.gallery.redis_connection import FieldSetter, chunks, redis_errors


def indexed(version: str, digest: bytes, *, kept: bool) -> bytes:
    """What is recorded of an image with this digest, once it has a vector of this model version.

    kept: whether the image's file was kept, too.
    """
    text = version.encode() + (b"\1" if kept else b"\0") + digest
    return hashlib.blake2b(text, digest_size=8).digest()


class Digests:
    """The records of all galleries' images, in hashes like those of the names. Outages of Redis
    raise Unavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._set_fields = FieldSetter(redis)

    async def put(self, gallery: str, records: Mapping[int, bytes]) -> None:
        """Records what was indexed (id -> record); of an empty record nothing is known."""
        fields = []
        for id_, record in records.items():
            bucket, field = bucket_and_field(id_)
            fields.append((_key(gallery, bucket), field, record))
        await self._set_fields("HSET", fields)

    async def get(self, gallery: str, ids: Sequence[int]) -> list[bytes | None]:
        """The record of each id, in order; None where nothing is known."""
        records: list[bytes | None] = []
        with redis_errors("PIPELINE HGET"):
            for chunk in chunks(ids):
                pipeline = self._redis.pipeline(transaction=False)
                for id_ in chunk:
                    bucket, field = bucket_and_field(id_)
                    pipeline.hget(_key(gallery, bucket), field)
                records += await pipeline.execute()
        return records

    async def forget(self, gallery: str, ids: Iterable[int]) -> None:
        await self.put(gallery, dict.fromkeys(ids, b""))

    async def forget_gallery(self, gallery: str) -> None:
        with redis_errors("UNLINK"):
            for keys in chunks([_key(gallery, bucket) for bucket in range(1 << BUCKET_BITS)]):
                await self._redis.unlink(*keys)


def _key(gallery: str, bucket: int) -> str:
    return f"passerby:digests:{gallery}:{bucket:05x}"
