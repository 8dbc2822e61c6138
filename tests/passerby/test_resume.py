"""What a push leaves out: images that are searchable with the same content, and no others."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pytest
from redis import Redis

from passerby import Image, Unavailable, ingest, resume
from passerby.batches import MAX_BATCH_IMAGES, messages
from passerby.contract import CONSUMER_GROUP, INGEST_STREAM
from passerby.ingest import IngestQueue
from passerby.resume import Resumption
from passerby.v1 import queue_pb2
from passerby.waiting import Peer
from tests.passerby.by_hand import batches_on, indexer, take
from tests.support.stores import entries

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Known:
    """A query service that knows these images, and what it was asked."""

    def __init__(self, *images: Image) -> None:
        self.digests = {image.filename: image.message().digest for image in images}
        self.asked: list[list[str]] = []
        self.away = False

    def find_missing(self, images: Sequence[queue_pb2.Image]) -> list[str]:
        self.asked.append([image.filename for image in images])
        if self.away:
            raise Unavailable("the query service cannot be reached")
        return [i.filename for i in images if self.digests.get(i.filename) != i.digest]


def changed(known: Known, images: Sequence[Image], *, settled: bool = True) -> list[str]:
    said.clear()
    resumption = Resumption(known.find_missing, lambda: settled, said.append)
    left_out: list[int] = []
    pushed = resumption.changed(messages(images, lambda _: None), left_out.append)
    names = [f"{image.filename}:{image.data.decode()}" for image in pushed]
    assert len(names) + sum(left_out) == len(images)
    return names


said: list[str] = []
A, B = Image("a.jpg", b"1"), Image("b.jpg", b"1")


@pytest.mark.parametrize(
    "other",
    [
        Image("a.jpg", b"2"),
        Image("a.jpg", b"1", camera="gate"),
        Image("a.jpg", b"1", captured_at=NOON),
        Image("a.jpg", b"1", tags={"floor": "1"}),
    ],
)
def test_what_differs_in_bytes_or_fields_is_pushed(other: Image) -> None:
    assert changed(Known(A), [A, B]) == ["b.jpg:1"]
    assert changed(Known(A), [other]) == [f"a.jpg:{other.data.decode() if other.data else ''}"]
    assert changed(Known(other), [other]) == []


def test_a_url_is_left_out_if_its_revision_is_known_and_the_same() -> None:
    url = "s3://bucket/a.jpg"
    first, second = (Image("a.jpg", uri=url, revision=revision) for revision in ("1", "2"))
    assert changed(Known(first), [first]) == []
    assert changed(Known(first), [second]) == ["a.jpg:"]
    unknown = Known(Image("a.jpg", uri=url))
    assert changed(unknown, [Image("a.jpg", uri=url)]) == ["a.jpg:"]
    assert unknown.asked == []


def test_images_are_asked_about_window_by_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "WINDOW_IMAGES", 2)
    known = Known(A)
    assert changed(known, [A, B, A]) == ["b.jpg:1"]
    assert known.asked == [["a.jpg", "b.jpg"]] * 2 + [["a.jpg"]]


def test_of_one_name_in_a_push_the_last_image_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The later one is what is searchable; the earlier one would replace it."""
    monkeypatch.setattr(resume, "WINDOW_IMAGES", 1)
    assert changed(Known(A), [Image("a.jpg", b"0"), A]) == ["a.jpg:0", "a.jpg:1"]


def test_a_name_that_nobody_can_ask_about_is_pushed() -> None:
    names = ["", "x" * 5000]
    known = Known()
    assert len(changed(known, [Image(name, b"1") for name in names])) == 2
    assert known.asked == []


def test_without_an_answer_everything_is_pushed_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resume, "WINDOW_IMAGES", 1)
    monkeypatch.setattr(resume, "_PAUSE_S", 0)
    known = Known(A, B)
    known.away = True
    assert changed(known, [A, B]) == ["a.jpg:1", "b.jpg:1"]
    (line,) = said
    assert "Every image is pushed" in line
    assert "cannot be reached" in line
    # Nor is it asked again at once, each time for seconds.
    monkeypatch.setattr(resume, "_PAUSE_S", 60)
    known.asked.clear()
    changed(known, [A, B])
    assert known.asked == [["a.jpg"]]


def test_a_queue_that_stands_says_nothing_of_what_is_searchable() -> None:
    assert changed(Known(A), [A], settled=False) == ["a.jpg:1"]
    assert said == ["The queue is not being indexed, so every image is pushed."]


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
def queue(redis_url: str) -> Iterator[IngestQueue]:
    queue = IngestQueue(redis_url, timeout_s=5, peer=Peer(0, said.append))
    yield queue
    queue.close()


def push(queue: IngestQueue, images: Sequence[Image], known: Known | None, *, wait: bool) -> int:
    """Returns how many were left out."""
    return queue.push(
        images,
        "g",
        wait=wait,
        on_progress=lambda _: None,
        stall_timeout_s=30,
        outage_timeout_s=0,
        find_missing=known.find_missing if known else None,
    ).unchanged


def test_what_an_earlier_push_left_on_the_queue_is_waited_for(
    queue: IngestQueue, redis: Redis
) -> None:
    """It is searchable then, and the entries of others that come meanwhile do not matter."""
    both = [A, B]
    push(queue, [A], None, wait=False)
    known = Known()

    def find_missing(images: Sequence[queue_pb2.Image]) -> list[str]:
        if redis.xlen(INGEST_STREAM) == 0:
            known.digests["a.jpg"] = A.message().digest
        return known.find_missing(images)

    with indexer(redis):
        done = queue.push(
            both,
            "g",
            wait=True,
            on_progress=lambda _: None,
            stall_timeout_s=30,
            outage_timeout_s=0,
            find_missing=find_missing,
        )
    assert (done.queued, done.searchable, done.unchanged) == (1, 1, 1)


def test_an_entry_that_is_being_worked_on_is_not_finished(
    queue: IngestQueue, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "SETTLE_TIMEOUT_S", 0.2)
    push(queue, [A], None, wait=False)
    redis.xgroup_create(INGEST_STREAM, CONSUMER_GROUP, id="0")
    assert push(queue, [A], Known(A), wait=False) == 0  # not given to anybody yet
    redis.xreadgroup(CONSUMER_GROUP, "other", {INGEST_STREAM: ">"})
    assert push(queue, [A], Known(A), wait=False) == 0
    assert len(batches_on(redis)) == 3


def test_entries_that_come_later_are_not_waited_for(queue: IngestQueue, redis: Redis) -> None:
    push(queue, [A], None, wait=False)
    (mine,) = [entry for entry, _ in entries(redis, INGEST_STREAM)]
    take(redis)
    push(queue, [B], None, wait=False)
    redis.xgroup_setid(INGEST_STREAM, CONSUMER_GROUP, "$")
    assert ingest._unfinished_until(redis, mine) is None


def test_entries_that_were_deleted_by_hand_are_not_waited_for(
    queue: IngestQueue, redis: Redis
) -> None:
    redis.xgroup_create(INGEST_STREAM, CONSUMER_GROUP, id="0", mkstream=True)
    push(queue, [A], None, wait=False)
    (deleted,) = [entry for entry, _ in entries(redis, INGEST_STREAM)]
    redis.xdel(INGEST_STREAM, deleted)
    assert ingest._unfinished_until(redis, deleted) is None


def test_nothing_is_queued_of_a_push_that_changes_nothing(queue: IngestQueue, redis: Redis) -> None:
    everything = [Image(f"{i}.jpg", b"1") for i in range(3 * MAX_BATCH_IMAGES)]
    assert push(queue, everything, Known(*everything), wait=True) == len(everything)
    assert redis.exists(INGEST_STREAM) == 0
