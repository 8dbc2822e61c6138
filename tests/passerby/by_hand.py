"""Takes entries off the queue as the contract says, where a test must decide when and how."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import cast

from google.protobuf.message import DecodeError
from redis import Redis
from redis.exceptions import ResponseError

from passerby.contract import (
    AWAITED,
    CONSUMER_GROUP,
    DEAD_LETTER_COUNTS,
    DEAD_LETTERS_STREAM,
    INGEST_STREAM,
    DeadLetterEntry,
    Outcome,
)
from passerby.queue_scripts import FINISH
from passerby.v1 import queue_pb2
from services.indexer.letter_limits import LetterLimits
from tests.support.stores import entries

BROKEN = b"broken"

Entry = tuple[bytes, dict[bytes, bytes]]


def batches_on(redis: Redis) -> list[queue_pb2.ImageBatch]:
    """The batches of the queue, oldest first."""
    return [
        queue_pb2.ImageBatch.FromString(fields[b"batch"])
        for _, fields in entries(redis, INGEST_STREAM)
    ]


def take(redis: Redis, count: int = 1) -> int:
    """Finishes up to `count` entries; images that are BROKEN become dead letters."""
    with suppress(ResponseError):  # the group exists
        redis.xgroup_create(INGEST_STREAM, CONSUMER_GROUP, id="0", mkstream=True)
    answer = redis.xreadgroup(CONSUMER_GROUP, "test", {INGEST_STREAM: ">"}, count=count)
    streams = cast(list[tuple[bytes, list[Entry]]], answer)
    taken = streams[0][1] if streams else []
    for entry, fields in taken:
        letters = []
        try:
            batch = queue_pb2.ImageBatch.FromString(fields[b"batch"])
        except DecodeError:
            letters.append(DeadLetterEntry("not an image", "", "", entry, 1, fields))
        else:
            for image in batch.images:
                if image.data == BROKEN:
                    one = queue_pb2.ImageBatch(gallery=batch.gallery, images=[image])
                    retry_fields = {b"batch": one.SerializeToString()}
                    letters.append(
                        DeadLetterEntry(
                            "not an image", batch.gallery, image.filename, entry, 1, retry_fields
                        )
                    )
        finish(redis, entry, letters)
    return len(taken)


def finish(
    redis: Redis,
    entry: bytes,
    letters: Sequence[DeadLetterEntry] = (),
    outcome: Outcome = Outcome.DONE,
) -> None:
    """Ends an entry that was delivered, as an indexer does."""
    limits = LetterLimits()
    keys = (INGEST_STREAM, DEAD_LETTERS_STREAM, DEAD_LETTER_COUNTS, AWAITED)
    arguments = [argument for letter in letters for argument in limits.arguments(letter)]
    first = (CONSUMER_GROUP, entry, outcome, *limits.of_all)
    assert redis.eval(FINISH, len(keys), *keys, *first, *arguments) == 0


@contextmanager
def indexer(redis: Redis) -> Iterator[None]:
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.01):
            take(redis)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
