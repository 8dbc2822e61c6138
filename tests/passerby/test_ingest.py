"""Pushing and dead letters, on a real Redis; the test takes the entries as an indexer would."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis

from passerby import Client, Failure, Image, PasserbyError, Progress, Refused, Unavailable
from passerby.batches import MAX_BATCH_IMAGES
from passerby.contract import (
    CONSUMER_GROUP,
    DEAD_LETTER_COUNTS,
    DEAD_LETTERS_STREAM,
    INGEST_STREAM,
    DeadLetterEntry,
    Outcome,
)
from passerby.ingest import IngestQueue
from passerby.pushing import MAX_PENDING_ENTRIES, POLL_S
from passerby.v1 import queue_pb2
from passerby.waiting import Peer
from tests.passerby.by_hand import BROKEN, batches_on, finish, indexer, take
from tests.support.processes import free_port, wait_until
from tests.support.stores import entries, put_aside, redis_running


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
def queue(redis_url: str) -> Iterator[IngestQueue]:
    queue = IngestQueue(redis_url, timeout_s=5, peer=Peer(0, lambda _: None))
    yield queue
    queue.close()


def images(count: int) -> list[Image]:
    return [Image(f"{i}.jpg", b"image") for i in range(count)]


def images_of_batches(count: int) -> list[Image]:
    """As many as fill `count` batches."""
    return images(count * MAX_BATCH_IMAGES)


def fill(redis: Redis, entries: int) -> None:
    """Puts entries of somebody else on the queue."""
    theirs = queue_pb2.ImageBatch(gallery="theirs")
    theirs.images.add(filename="x.jpg", data=b"image")
    for _ in range(entries):
        redis.xadd(INGEST_STREAM, {"batch": theirs.SerializeToString()})


def push(
    queue: IngestQueue,
    pushed: Iterable[Image],
    gallery: str,
    *,
    wait: bool,
    on_progress: Callable[[Progress], None] = lambda _: None,
    stall_timeout_s: float = 30,
    outage_timeout_s: float = 0,
) -> Progress:
    return queue.push(
        pushed,
        gallery,
        wait=wait,
        on_progress=on_progress,
        stall_timeout_s=stall_timeout_s,
        outage_timeout_s=outage_timeout_s,
    )


def test_a_push_waits_until_all_is_searchable_or_rejected(queue: IngestQueue, redis: Redis) -> None:
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
                finish(redis, cast(bytes, row["message_id"]))

    push(queue, images(5), "g", wait=True, on_progress=finish_later)
    assert [progress.searchable for progress in states[:6]] == [0] * 6
    assert states[-1].searchable == 5


def test_the_queue_never_holds_more_than_it_has_room_for(queue: IngestQueue, redis: Redis) -> None:
    lengths: list[int] = []

    def take_some_of_a_full_queue(_: Progress) -> None:
        lengths.append(int(redis.xlen(INGEST_STREAM)))
        # Not at once: a push that goes on while the queue is full is seen.
        if lengths[-3:] == [lengths[-1]] * 3:
            take(redis, 2)

    pushed = images_of_batches(MAX_PENDING_ENTRIES + 7)
    push(queue, pushed, "g", wait=False, on_progress=take_some_of_a_full_queue)
    assert max(lengths) == MAX_PENDING_ENTRIES


def test_a_push_that_stalls_says_where(queue: IngestQueue, redis: Redis) -> None:
    with pytest.raises(Unavailable, match=r"200 images are queued.*is the indexer running"):
        push(queue, images(200), "g", wait=True, stall_timeout_s=0.2)
    fill(redis, MAX_PENDING_ENTRIES)
    with pytest.raises(Unavailable, match=r"the queue is full.*is the indexer running"):
        push(queue, images(200), "g", wait=False, stall_timeout_s=0.2)


def test_a_push_does_not_stall_while_entries_of_others_are_finished(
    queue: IngestQueue, redis: Redis
) -> None:
    fill(redis, MAX_PENDING_ENTRIES + 15)
    polls = 0

    def finish_one_of_theirs(_: Progress) -> None:
        nonlocal polls
        polls += 1
        if polls % 5 == 0:
            take(redis)

    last = push(
        queue, images(1), "g", wait=False, on_progress=finish_one_of_theirs, stall_timeout_s=1
    )
    assert last.queued == 1
    assert polls * POLL_S > 2, "the wait was never longer than the timeout"


def test_a_push_waits_while_redis_has_no_memory(queue: IngestQueue, redis: Redis) -> None:
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


def test_a_rejected_entry_counts_with_all_its_images(queue: IngestQueue, redis: Redis) -> None:
    def reject(_: Progress) -> None:
        for entry, fields in entries(redis, INGEST_STREAM):
            redis.xreadgroup(CONSUMER_GROUP, "test", {INGEST_STREAM: ">"})
            finish(redis, entry, [DeadLetterEntry("not an image", "g", "", entry, 1, fields)])

    take(redis)
    last = push(queue, images(7), "g", wait=True, on_progress=reject)
    assert (last.queued, last.searchable) == (7, 0)
    assert last.failures == (Failure("", "not an image"),)


def test_what_was_deleted_with_its_gallery_is_not_searchable(
    queue: IngestQueue, redis: Redis
) -> None:
    def delete(_: Progress) -> None:
        for entry, _fields in entries(redis, INGEST_STREAM):
            redis.xreadgroup(CONSUMER_GROUP, "test", {INGEST_STREAM: ">"})
            finish(redis, entry, outcome=Outcome.DELETED)

    take(redis)
    last = push(queue, images(2), "g", wait=True, on_progress=delete)
    assert last.searchable == 0
    assert {failure.filename for failure in last.failures} == {"0.jpg", "1.jpg"}
    assert "deleted with its gallery" in last.failures[0].reason


@pytest.mark.parametrize("delivered", [True, False])
def test_an_entry_that_others_took_away_is_lost_and_not_searchable(
    queue: IngestQueue, redis: Redis, delivered: bool
) -> None:
    """By hand, or by a trimmed stream; its ids and those of others say nothing."""
    take(redis)
    trimmed = False

    def trim(_: Progress) -> None:
        nonlocal trimmed
        if not trimmed and redis.xlen(INGEST_STREAM):
            if delivered:
                redis.xreadgroup(CONSUMER_GROUP, "test", {INGEST_STREAM: ">"})
            redis.xtrim(INGEST_STREAM, maxlen=0)
            trimmed = True
            fill(redis, 1)
            take(redis)

    last = push(queue, images(2), "g", wait=True, on_progress=trim)
    assert last.searchable == 0
    assert [failure.filename for failure in last.failures] == ["0.jpg", "1.jpg"]
    assert "was taken off the queue, and by no indexer; push it again" in last.failures[0].reason


def test_a_stream_at_its_last_id_is_made_again_with_what_is_pending(
    queue: IngestQueue, redis: Redis
) -> None:
    fill(redis, 2)
    redis.xgroup_create(INGEST_STREAM, CONSUMER_GROUP, id="0")
    redis.xreadgroup(CONSUMER_GROUP, "test", {INGEST_STREAM: ">"}, count=1)
    before = [entry for entry, _ in entries(redis, INGEST_STREAM)]
    redis.xadd(INGEST_STREAM, {"json": "{}"}, id=f"{2**64 - 1}-{2**64 - 1}")
    assert push(queue, images(1), "g", wait=False).queued == 1
    after = entries(redis, INGEST_STREAM)
    assert [entry for entry, _ in after][:2] == before
    assert [list(fields) for _, fields in after] == [[b"batch"], [b"batch"], [b"json"], [b"batch"]]
    (pending,) = redis.xpending_range(INGEST_STREAM, CONSUMER_GROUP, "-", "+", 10)
    assert (pending["message_id"], pending["times_delivered"]) == (before[0], 1)
    answer: Any = redis.xreadgroup(CONSUMER_GROUP, "other", {INGEST_STREAM: ">"})
    assert [entry for entry, _ in answer[0][1]] == [entry for entry, _ in after[1:]]


def test_a_push_leaves_room_for_what_indexing_takes_and_says_so(
    queue: IngestQueue, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    redis.set("names", bytes(9_000_000))
    try:
        redis.config_set("maxmemory", 12_000_000)
        with pytest.raises(Unavailable, match=r"Redis is nearly full .* raise its maxmemory"):
            push(queue, images(1), "g", wait=False, stall_timeout_s=0.2)
        assert "Waiting: Redis is nearly full" in caplog.text
        redis.config_set("maxmemory", 24_000_000)
        assert push(queue, images(1), "g", wait=False).queued == 1
    finally:
        redis.config_set("maxmemory", 0)


def test_a_gallerys_name_is_checked_before_anything_is_queued(
    queue: IngestQueue, redis: Redis
) -> None:
    with pytest.raises(Refused, match="'My Gallery': a gallery name has"):
        push(queue, images(1), "My Gallery", wait=False)
    assert redis.xlen(INGEST_STREAM) == 0


@pytest.fixture
def rejected(queue: IngestQueue, redis: Redis) -> IngestQueue:
    """Two dead letters of `left`, one of `right`, and an entry that is not a batch."""
    for gallery, names in (("left", "ab"), ("right", "c")):
        broken = [Image(f"{name}.jpg", BROKEN) for name in names]
        push(queue, broken, gallery, wait=False)
    redis.xadd(INGEST_STREAM, {"batch": b"\xff\xff"})
    while take(redis):
        pass
    return queue


def test_dead_letters_are_listed_for_one_gallery_or_all(rejected: IngestQueue) -> None:
    assert [letter.filename for letter in rejected.dead_letters("left")] == ["a.jpg", "b.jpg"]
    letters = list(rejected.dead_letters())
    assert [letter.gallery for letter in letters] == ["left", "left", "right", ""]
    assert letters[0].reason == "not an image"
    assert letters[0].deliveries == 1


def test_a_retried_letter_moves_back_to_the_queue(rejected: IngestQueue, redis: Redis) -> None:
    assert rejected.retry_dead_letters("left") == 2
    assert [batch.images[0].filename for batch in batches_on(redis)] == ["a.jpg", "b.jpg"]
    assert list(rejected.dead_letters("left")) == []
    assert redis.hgetall(DEAD_LETTER_COUNTS) == {b"right": b"1"}


def test_a_letter_that_is_rejected_again_is_retried_once(
    rejected: IngestQueue, redis: Redis
) -> None:
    with indexer(redis):
        assert rejected.retry_dead_letters() == 4
        wait_until(lambda: redis.xlen(INGEST_STREAM) == 0, "an empty queue")
    assert len(list(rejected.dead_letters())) == 4


def test_cleared_letters_are_gone_with_their_count(rejected: IngestQueue, redis: Redis) -> None:
    assert rejected.clear_dead_letters("left") == 2
    assert [letter.gallery for letter in rejected.dead_letters()] == ["right", ""]
    assert rejected.clear_dead_letters() == 2
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
        lambda client: client.push([Image("1.jpg", b"x")], outage_timeout_s=0),
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


def test_dead_letters_stay_while_redis_has_no_memory_to_retry_them(
    rejected: IngestQueue, redis: Redis
) -> None:
    """It may have later, so this is not the request's fault."""
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(Unavailable, match="is out of memory: raise maxmemory"):
            rejected.retry_dead_letters()
    finally:
        redis.config_set("maxmemory", 0)
    assert len(list(rejected.dead_letters())) == 4


def test_a_replica_is_named_as_one(tmp_path: Path) -> None:
    with redis_running(tmp_path) as url, Client(redis_url=url) as client:
        with Redis.from_url(url) as redis:
            redis.replicaof("127.0.0.1", free_port())
        with pytest.raises(Unavailable, match="read-only replica: REDIS_URL must be the primary"):
            client.push([Image("1.jpg", b"x")], wait=False, outage_timeout_s=0)


def test_a_wrong_command_is_refused(queue: IngestQueue, redis: Redis) -> None:
    """Whoever keeps something else under this key must move it: to retry would not help."""
    redis.set(INGEST_STREAM, "not a stream")
    with pytest.raises(Refused, match=r"redis://.*WRONGTYPE") as refused:
        queue.pending()
    assert refused.value.code == "FAILED_PRECONDITION"
