"""Pushing and dead letters, on a real Redis; the test takes the entries as an indexer would."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from passerby import Client, Failure, Image, PasserbyError, Progress, Refused, Unavailable
from passerby.contract import (
    CONSUMER_GROUP,
    DEAD_LETTER_COUNTS,
    DEAD_LETTERS_STREAM,
    INGEST_STREAM,
)
from passerby.ingest import IngestQueue
from passerby.v1 import queue_pb2
from tests.passerby.by_hand import BROKEN, indexer, put_aside, take
from tests.support.processes import free_port
from tests.support.stores import redis_running


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
def queue(redis_url: str) -> Iterator[IngestQueue]:
    queue = IngestQueue(redis_url, timeout_s=5)
    yield queue
    queue.close()


def images(count: int) -> list[Image]:
    return [Image(f"{i}.jpg", b"image") for i in range(count)]


def push(
    queue: IngestQueue,
    pushed: Iterable[Image],
    gallery: str,
    *,
    wait: bool,
    on_progress: Callable[[Progress], None] = lambda _: None,
    patience_s: float = 30,
    max_pending: int = 64,
) -> Progress:
    return queue.push(
        pushed,
        gallery,
        wait=wait,
        on_progress=on_progress,
        patience_s=patience_s,
        max_pending=max_pending,
    )


def test_a_push_waits_until_all_is_searchable_or_refused(queue: IngestQueue, redis: Redis) -> None:
    pushed = [*images(200), Image("b.jpg", BROKEN), Image("no-source.jpg")]
    seen: list[Progress] = []
    with indexer(redis):
        last = push(queue, pushed, "g", wait=True, on_progress=seen.append)
    assert (last.queued, last.searchable) == (201, 200)
    assert {failure.filename for failure in last.failures} == {"b.jpg", "no-source.jpg"}
    assert redis.xlen(INGEST_STREAM) == 0
    assert [p.queued for p in seen] == sorted(p.queued for p in seen)
    assert [p.searchable for p in seen] == sorted(p.searchable for p in seen)
    assert seen[-1] == last


def test_entries_of_others_and_their_letters_are_not_mine(queue: IngestQueue, redis: Redis) -> None:
    others = queue_pb2.ImageBatch(gallery="g")
    others.images.add(filename="theirs.jpg", data=BROKEN)
    redis.xadd(INGEST_STREAM, {"batch": others.SerializeToString()})
    take(redis)
    redis.xadd(INGEST_STREAM, {"batch": others.SerializeToString()})
    with indexer(redis):
        last = push(queue, images(3), "g", wait=True)
    assert last == Progress(3, 3, ())


def test_an_entry_in_hand_is_not_searchable_yet(queue: IngestQueue, redis: Redis) -> None:
    """Delivered is not finished: only the acknowledgement is."""
    push(queue, images(1), "g", wait=False)
    redis.xgroup_create(INGEST_STREAM, CONSUMER_GROUP, id="0")
    states: list[Progress] = []
    redis.xreadgroup(CONSUMER_GROUP, "test", {INGEST_STREAM: ">"})

    def finish_later(progress: Progress) -> None:
        states.append(progress)
        if len(states) == 3:
            redis.xreadgroup(CONSUMER_GROUP, "test", {INGEST_STREAM: ">"})
        if len(states) == 6:
            pending = redis.xpending_range(INGEST_STREAM, CONSUMER_GROUP, "-", "+", 10)
            for row in pending:
                redis.xack(INGEST_STREAM, CONSUMER_GROUP, row["message_id"])

    push(queue, images(5), "g", wait=True, on_progress=finish_later)
    assert [progress.searchable for progress in states[:6]] == [0] * 6
    assert states[-1].searchable == 5


def test_the_queue_never_holds_more_than_it_has_room_for(queue: IngestQueue, redis: Redis) -> None:
    lengths: list[int] = []

    def look(_: Progress) -> None:
        lengths.append(redis.xlen(INGEST_STREAM))
        if lengths[-1] == 3:
            take(redis, 2)

    push(queue, images(64 * 10), "g", wait=False, on_progress=look, max_pending=3)
    assert max(lengths) == 3


def test_a_full_queue_that_nobody_empties_is_said(queue: IngestQueue, redis: Redis) -> None:
    with pytest.raises(Unavailable, match=r"the queue is full.*is the indexer running"):
        push(queue, images(200), "g", wait=False, max_pending=2, patience_s=0.2)
    with pytest.raises(Unavailable, match=r"200 images are queued.*is the indexer running"):
        push(queue, images(200), "g", wait=True, patience_s=0.2)


def test_a_queue_that_others_filled_is_waited_for_while_it_is_emptied(
    queue: IngestQueue, redis: Redis
) -> None:
    theirs = queue_pb2.ImageBatch(gallery="theirs")
    theirs.images.add(filename="x.jpg", data=b"image")
    for _ in range(20):
        redis.xadd(INGEST_STREAM, {"batch": theirs.SerializeToString()})
    looks = 0

    def finish_one_of_theirs(_: Progress) -> None:
        nonlocal looks
        looks += 1
        if looks % 5 == 0:
            take(redis)

    last = push(
        queue,
        images(1),
        "g",
        wait=False,
        on_progress=finish_one_of_theirs,
        max_pending=5,
        patience_s=1,
    )
    assert last.queued == 1
    assert looks * 0.05 > 2, "it was never longer than the patience"


def test_a_redis_without_memory_is_waited_for(queue: IngestQueue, redis: Redis) -> None:
    states: list[Progress] = []

    def free_later(progress: Progress) -> None:
        states.append(progress)
        if len(states) == 3:
            redis.config_set("maxmemory", 0)

    redis.config_set("maxmemory", 1)
    try:
        last = push(queue, images(1), "g", wait=False, on_progress=free_later)
    finally:
        redis.config_set("maxmemory", 0)
    assert last.queued == 1
    assert [state.queued for state in states[:3]] == [0, 0, 0]


def test_a_refused_entry_counts_with_all_its_images_once(queue: IngestQueue, redis: Redis) -> None:
    def refuse(_: Progress) -> None:
        answer = redis.xrange(INGEST_STREAM)
        for entry, fields in answer:
            for _ in range(2):  # a redelivered entry may be refused twice
                put_aside(redis, entry, fields, "g", "")
            take(redis)

    take(redis)
    last = push(queue, images(7), "g", wait=True, on_progress=refuse)
    assert (last.queued, last.searchable) == (7, 0)
    assert last.failures == (Failure("", "not an image"),)


def test_a_gallerys_name_is_checked_before_anything_is_queued(
    queue: IngestQueue, redis: Redis
) -> None:
    with pytest.raises(Refused, match="'My Gallery': a gallery's name is"):
        push(queue, images(1), "My Gallery", wait=False)
    assert redis.xlen(INGEST_STREAM) == 0


@pytest.fixture
def refused(queue: IngestQueue, redis: Redis) -> IngestQueue:
    """Two dead letters of `left`, one of `right`, and an entry that is no batch."""
    for gallery, names in (("left", "ab"), ("right", "c")):
        broken = [Image(f"{name}.jpg", BROKEN) for name in names]
        push(queue, broken, gallery, wait=False)
    redis.xadd(INGEST_STREAM, {"batch": b"\xff\xff"})
    while take(redis):
        pass
    return queue


def test_dead_letters_are_listed_for_one_gallery_or_all(refused: IngestQueue) -> None:
    assert [letter.filename for letter in refused.dead_letters("left")] == ["a.jpg", "b.jpg"]
    letters = list(refused.dead_letters())
    assert [letter.gallery for letter in letters] == ["left", "left", "right", ""]
    assert letters[0].reason == "not an image"
    assert letters[0].deliveries == 1


def test_a_retried_letter_is_on_the_queue_again_and_no_letter_any_more(
    refused: IngestQueue, redis: Redis
) -> None:
    assert refused.retry_dead_letters("left") == 2
    entries = [fields for _, fields in redis.xrange(INGEST_STREAM)]
    retried = [queue_pb2.ImageBatch.FromString(fields[b"batch"]) for fields in entries]
    assert [batch.images[0].filename for batch in retried] == ["a.jpg", "b.jpg"]
    assert list(refused.dead_letters("left")) == []
    assert redis.hgetall(DEAD_LETTER_COUNTS) == {b"right": b"1", b"": b"1"}


def test_a_letter_that_is_refused_again_is_not_retried_for_ever(
    refused: IngestQueue, redis: Redis
) -> None:
    with indexer(redis):
        assert refused.retry_dead_letters() == 4
        wait_for_empty(redis)
    assert len(list(refused.dead_letters())) == 4


def wait_for_empty(redis: Redis) -> None:
    while redis.xlen(INGEST_STREAM):
        pass


def test_cleared_letters_are_gone_with_their_count(refused: IngestQueue, redis: Redis) -> None:
    assert refused.clear_dead_letters("left") == 2
    assert [letter.gallery for letter in refused.dead_letters()] == ["right", ""]
    assert refused.clear_dead_letters() == 2
    assert redis.xlen(DEAD_LETTERS_STREAM) == 0
    assert redis.hgetall(DEAD_LETTER_COUNTS) == {}


def test_more_letters_than_one_page_are_read_and_cleared(queue: IngestQueue, redis: Redis) -> None:
    for i in range(230):
        put_aside(redis, b"1-1", {b"batch": b""}, "g", f"{i}.jpg")
    assert len(list(queue.dead_letters("g"))) == 230
    assert queue.clear_dead_letters("g") == 230


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.push([Image("1.jpg", b"x")]),
        lambda client: list(client.dead_letters()),
        lambda client: client.retry_dead_letters(),
        lambda client: client.clear_dead_letters(),
        lambda client: client.pending(),
    ],
)
def test_a_missing_redis_is_named_without_its_password(call: Callable[[Client], object]) -> None:
    address = f"127.0.0.1:{free_port()}"
    with (
        Client(redis_url=f"redis://operator:secret@{address}/0") as client,
        pytest.raises(Unavailable, match=rf"redis://{address}/0 cannot be reached") as error,
    ):
        call(client)
    assert "secret" not in str(error.value)
    assert "REDIS_URL" in str(error.value)


def test_a_wrong_redis_url_is_named() -> None:
    with (
        Client(redis_url="http://127.0.0.1") as client,
        pytest.raises(PasserbyError, match=r"REDIS_URL: .*redis://"),
    ):
        client.pending()


def test_a_redis_that_comes_back_is_used_again(tmp_path: Path) -> None:
    port = free_port()
    with redis_running(tmp_path, port) as url:
        queue = IngestQueue(url, timeout_s=5)
        push(queue, images(64), "g", wait=False)
    with pytest.raises(Unavailable):
        push(queue, images(64), "g", wait=False)
    with redis_running(tmp_path, port):
        push(queue, images(64), "g", wait=False)
        assert queue.pending() == 2
    queue.close()
