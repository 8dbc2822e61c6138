"""The queue as a client sees it: pushing images, with backpressure, and reading dead letters."""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError
from redis.retry import Retry

from passerby import tracing
from passerby.batches import batches, messages
from passerby.contract import (
    CONSUMER_GROUP,
    DEAD_LETTER_COUNTS,
    DEAD_LETTERS_STREAM,
    GALLERY_NAME,
    GALLERY_RULE,
    INGEST_STREAM,
    LAST_ENTRY,
    REMOVE_DEAD_LETTER,
    DeadLetterEntry,
)
from passerby.errors import PasserbyError, Refused, Unavailable
from passerby.redis_errors import outage, rejected_login
from passerby.resume import FindMissing, Resumption
from passerby.values import DeadLetter, Failure, Image, Progress
from passerby.waiting import Peer, Say, log

T = TypeVar("T")

# Bounds the memory that the queue takes in Redis: this many of the largest usual batches.
MAX_PENDING_ENTRIES = 64
POLL_S = 0.05
# A queue that makes no progress for so long is not waited for before a push.
SETTLE_TIMEOUT_S = 30.0
# What a trace says of an entry, in the words of OpenTelemetry.
_SEND = {
    "messaging.system": "redis",
    "messaging.destination.name": INGEST_STREAM,
    "messaging.operation.name": "send",
    "messaging.operation.type": "send",
}
PAGE = 100


class IngestQueue:
    """Redis with the two streams of the contract; safe to share between threads."""

    def __init__(self, url: str, timeout_s: float, peer: Peer, password: str = "") -> None:
        """password: where the URL has none."""
        self._peer = peer
        try:
            self._redis = Redis.from_url(
                url,
                password=password or None,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 3),
            )
        except ValueError as error:
            raise PasserbyError(f"REDIS_URL: {error}") from error
        self.address = _without_password(url)

    def close(self) -> None:
        self._redis.close()

    def pending(self) -> int:
        """Entries of the stream that are not finished."""
        return self._ask(lambda: int(self._redis.xlen(INGEST_STREAM)))

    def push(
        self,
        images: Iterable[Image],
        gallery: str,
        *,
        wait: bool,
        on_progress: Callable[[Progress], None],
        stall_timeout_s: float,
        outage_timeout_s: float,
        find_missing: FindMissing | None = None,
        say: Say = log.warning,
    ) -> Progress:
        """See Client.push. find_missing: None to push what is searchable already, too."""
        if not GALLERY_NAME.fullmatch(gallery):
            raise Refused(f"gallery {gallery!r}: {GALLERY_RULE}")
        tracing.follow_application()
        push = _Push(self._redis, stall_timeout_s)

        def poll() -> None:
            self._ask(push.poll, outage_timeout_s)
            on_progress(push.progress())

        def unchanged(count: int) -> None:
            push.unchanged += count
            poll()

        pushed = messages(images, push.failures.append)
        if find_missing:
            settle = partial(self._settle, outage_timeout_s)
            pushed = Resumption(find_missing, settle, say).changed(pushed, unchanged)
        for batch in batches(pushed, gallery):
            with tracing.entry(f"send {INGEST_STREAM}", "producer", None, _SEND):
                batch.trace_context.update(tracing.carried())
                add = partial(push.add_if_room, batch.SerializeToString(), len(batch.images))
                while not self._ask(add, outage_timeout_s):
                    push.wait("the queue is full")
                    poll()
            poll()
        while wait and push.unfinished:
            push.wait(f"{push.queued:,} images are queued")
            poll()
        on_progress(push.progress())
        return push.progress()

    def _settle(self, outage_timeout_s: float) -> bool:
        """Waits until what is on the queue now is finished; False if it makes no progress."""
        redis = self._redis

        def ask(command: Callable[[], T]) -> T:
            return self._ask(command, outage_timeout_s)

        last = ask(lambda: redis.eval(f"{LAST_ENTRY} return last", 1, INGEST_STREAM))
        before, waited_s = None, 0.0
        while rest := ask(partial(_unfinished_until, redis, cast(bytes, last))):
            before, waited_s = rest, waited_s + POLL_S if rest == before else 0
            if waited_s > SETTLE_TIMEOUT_S:
                return False
            time.sleep(POLL_S)
        return True

    def dead_letters(self, gallery: str | None = None) -> Iterator[DeadLetter]:
        """Oldest first; of all galleries if none is named."""
        for letter, _ in self._letters(gallery):
            yield letter

    def retry_dead_letters(self, gallery: str | None = None) -> int:
        """Puts them on the queue again; returns how many."""
        count = 0
        for letter, retry_fields in self._letters(gallery):
            if retry_fields:
                self._ask(partial(self._redis.xadd, INGEST_STREAM, retry_fields))
                # In this order: after a crash in between it is pushed twice, which is safe.
                count += self._remove(letter)
        return count

    def clear_dead_letters(self, gallery: str | None = None) -> int:
        """Deletes them; returns how many."""
        return sum(self._remove(letter) for letter, _ in self._letters(gallery))

    def _remove(self, letter: DeadLetter) -> int:
        keys = [DEAD_LETTERS_STREAM, DEAD_LETTER_COUNTS]
        arguments = [*keys, letter.id, letter.gallery]
        return int(self._ask(lambda: self._redis.eval(REMOVE_DEAD_LETTER, len(keys), *arguments)))

    def _letters(self, gallery: str | None) -> Iterator[tuple[DeadLetter, dict[Any, Any]]]:
        """Each letter with the entry to push again; only those that exist at the start."""
        newest = self._ask(lambda: self._redis.xrevrange(DEAD_LETTERS_STREAM, count=1))
        start, end = b"-", cast(bytes, newest[0][0]) if newest else b"0"
        while True:
            page = self._ask(partial(_letters_page, self._redis, start, end))
            for letter_id, fields in page:
                stored = DeadLetterEntry.from_fields(fields)
                if gallery is None or stored.gallery == gallery:
                    yield _letter(letter_id, stored), dict(stored.retry_fields)
            if len(page) < PAGE:
                return
            start = b"(" + page[-1][0]

    def _ask(self, command: Callable[[], T], outage_timeout_s: float = 0) -> T:
        """Runs commands that may be repeated; an outage is waited out for that long."""

        def attempt() -> T:
            try:
                return command()
            except RedisError as error:
                raise self._explained(error) from error

        return self._peer.call(attempt, outage_timeout_s)

    def _explained(self, error: RedisError) -> PasserbyError:
        if rejected := rejected_login(error):
            return Refused(
                f"Redis at {self.address} rejects the user or password of REDIS_URL "
                f"(redis://USER:PASSWORD@HOST:PORT/0) or REDIS_PASSWORD: {rejected}",
                "PERMISSION_DENIED",
            )
        if problem := outage(error):
            return Unavailable(
                f"Redis at {self.address} {problem}; is the stack up? REDIS_URL names the address"
            )
        return Refused(f"Redis at {self.address}: {error}", "FAILED_PRECONDITION")


class _Push:
    """One push in progress. It asks which of its entries are finished, without their images."""

    def __init__(self, redis: Redis, stall_timeout_s: float) -> None:
        self._redis = redis
        self._stall_timeout_s = stall_timeout_s
        self._waited_s = 0.0
        """Since the queue changed last. Neither images that are slow to read nor an outage of
        Redis, both of which show nothing of the queue, count."""
        self._seen: object = None
        self.unfinished: dict[bytes, int] = {}
        """Entry -> its images."""
        self._rejected: dict[tuple[bytes, str], int] = {}
        """(entry, filename) -> images; by name, as a redelivered entry may be rejected twice."""
        self._letters_from = b"-"
        self._entries: dict[bytes, int] = {}
        self.queued = self.searchable = self.unchanged = 0
        self.failures: list[Failure] = []

    def add_if_room(self, batch: bytes, images: int) -> bool:
        """False if the queue is full, or Redis has no memory for it now."""
        if int(self._redis.xlen(INGEST_STREAM)) >= MAX_PENDING_ENTRIES:
            return False
        try:
            entry = cast(bytes, self._redis.xadd(INGEST_STREAM, {"batch": batch}))
        except OutOfMemoryError:
            return False
        if not self._entries:
            # Letters of this push are younger than its first entry, by the same clock.
            self._letters_from = entry.partition(b"-")[0]
        self.unfinished[entry] = self._entries[entry] = images
        self.queued += images
        self._waited_s = 0
        return True

    def poll(self) -> None:
        """Finds out what was finished and rejected since the last poll."""
        delivered, in_hand, pending = self._group()
        finished = [
            entry
            for entry in self.unfinished
            if _order(entry) <= delivered and entry not in in_hand
        ]
        # After the question above, as an entry's letters are written when it is finished.
        if self.unfinished:
            self._read_letters()
        rejected: dict[bytes, int] = {}
        for (entry, _), images in self._rejected.items():
            rejected[entry] = rejected.get(entry, 0) + images
        for entry in finished:
            self.searchable += self.unfinished.pop(entry) - rejected.get(entry, 0)
        # The whole group, as a queue that others filled shows nothing of ours while it moves.
        seen = (delivered, frozenset(in_hand), pending)
        if seen != self._seen:
            self._seen, self._waited_s = seen, 0

    def progress(self) -> Progress:
        return Progress(self.queued, self.searchable, tuple(self.failures), self.unchanged)

    def wait(self, state: str) -> None:
        """Waits a moment; raises Unavailable if the indexer has made no progress for too long."""
        if self._waited_s > self._stall_timeout_s:
            raise Unavailable(
                f"{state}, and nothing was taken from the queue for {self._stall_timeout_s:.0f} s: "
                "is the indexer running, without errors in its log? What is queued stays there "
                "and is indexed later"
            )
        time.sleep(POLL_S)
        self._waited_s += POLL_S

    def _group(self) -> tuple[tuple[int, int], set[bytes], int]:
        """The last entry that the indexer was given, those of ours that it has not finished, and
        the number of all that it has not finished.
        """
        try:
            groups = self._redis.xinfo_groups(INGEST_STREAM)
        except ResponseError:  # no stream yet
            return (0, 0), set(), 0
        for group in groups:
            if group["name"] == CONSUMER_GROUP.encode():
                delivered, pending = _order(group["last-delivered-id"]), int(group["pending"])
                mine = list(self.unfinished)
                if not mine:
                    return delivered, set(), pending
                rows = self._redis.xpending_range(
                    INGEST_STREAM, CONSUMER_GROUP, min=mine[0], max=mine[-1], count=100_000
                )
                return delivered, {cast(bytes, row["message_id"]) for row in rows}, pending
        return (0, 0), set(), 0

    def _read_letters(self) -> None:
        while True:
            page = _letters_page(self._redis, self._letters_from)
            for letter_id, fields in page:
                letter = DeadLetterEntry.from_fields(fields)
                entry, filename = letter.entry_id, letter.filename
                if entry in self._entries and (entry, filename) not in self._rejected:
                    self._rejected[entry, filename] = 1 if filename else self._entries[entry]
                    self.failures.append(Failure(filename, letter.reason))
                self._letters_from = b"(" + letter_id
            if len(page) < PAGE:
                return


def _unfinished_until(redis: Redis, last: bytes) -> object:
    """What the indexer has not finished of the entries up to there; None if it has all of them."""
    try:
        with redis.pipeline() as pipeline:  # in one step
            pipeline.xlen(INGEST_STREAM)
            pipeline.xinfo_groups(INGEST_STREAM)
            pipeline.xpending_range(INGEST_STREAM, CONSUMER_GROUP, min="-", max=last, count=10_000)
            length, groups, rows = pipeline.execute()
    except ResponseError:  # no group yet: whatever there is, nobody was given it
        return int(redis.xlen(INGEST_STREAM)) or None
    group = next(group for group in groups if group["name"] == CONSUMER_GROUP.encode())
    delivered = min(_order(group["last-delivered-id"]), _order(last))
    all_delivered = delivered == _order(last) or length == group["pending"]
    if all_delivered and not rows:
        return None
    return delivered, tuple(row["message_id"] for row in rows)


def _letters_page(
    redis: Redis, start: bytes, end: bytes = b"+"
) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return cast(
        list[tuple[bytes, dict[bytes, bytes]]],
        redis.xrange(DEAD_LETTERS_STREAM, start, end, count=PAGE),
    )


def _order(entry: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number)


def _letter(letter_id: bytes, stored: DeadLetterEntry) -> DeadLetter:
    return DeadLetter(
        id=letter_id.decode(),
        gallery=stored.gallery,
        filename=stored.filename,
        reason=stored.reason,
        entry_id=stored.entry_id.decode(errors="replace"),
        deliveries=stored.deliveries,
    )


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
