"""Empty stores and an indexer beside them, as a process of its own that a test starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pymilvus import MilvusClient
from redis import Redis

from passerby.contract import DEAD_LETTERS_STREAM, INGEST_STREAM
from passerby.v1 import queue_pb2
from tests.support.processes import Service, wait_until
from tests.support.stores import entries


@dataclass
class Stack:
    """Empty stores, and an indexer to be started."""

    indexer: Service
    redis: Redis
    milvus: MilvusClient
    folder: Path

    def push(self, gallery: str, images: dict[str, bytes], **fields: Any) -> bytes:
        """fields: as in queue.proto's Image. Returns the entry's id."""
        batch = queue_pb2.ImageBatch(gallery=gallery)
        for filename, data in images.items():
            batch.images.add(filename=filename, data=data, **fields)
        entry = self.redis.xadd(INGEST_STREAM, {"batch": batch.SerializeToString()})
        assert isinstance(entry, bytes)
        return entry

    def drained(self, timeout_s: float = 60) -> None:
        wait_until(lambda: self.redis.xlen(INGEST_STREAM) == 0, "an empty queue", timeout_s)

    def rows(self, gallery: str) -> int:
        answer = self.milvus.query(
            f"gallery_{gallery}", filter="", output_fields=["count(*)"], consistency_level="Strong"
        )
        return int(answer[0]["count(*)"])

    def names(self, gallery: str) -> list[str]:
        keys = self.redis.scan_iter(f"passerby:names:{gallery}:*", count=10_000)
        values = cast(list[bytes], [name for key in keys for name in self.redis.hvals(key)])
        return sorted(name.decode() for name in values)

    def dead_letters(self) -> list[dict[str, str]]:
        return [
            {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
            for _, fields in entries(self.redis, DEAD_LETTERS_STREAM)
        ]
