"""The queue as a client sees it: pushing images, with backpressure, and reading dead letters."""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError, ResponseError
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
    REMOVE_DEAD_LETTER,
    DeadLetterEntry,
)
from passerby.errors import PasserbyError, Refused, Unavailable
from passerby.pushing import POLL_S, Push
from passerby.queue_scripts import LAST_ENTRY
from passerby.redis_errors import outage, rejected_login
from passerby.resume import FindMissing, Resumption
from passerby.values import DeadLetter, Image, Progress
from passerby.waiting import Peer, Say, log

T = TypeVar("T")

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
        push = Push(self._redis, stall_timeout_s)

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
                filenames = [image.filename for image in batch.images]
                add = partial(push.add_if_room, batch.SerializeToString(), filenames)
                while not self._ask(add, outage_timeout_s):
                    push.wait(push.full(say))
                    poll()
            poll()
        while wait and push.unfinished:
            push.wait(f"{push.queued:,} images are queued")
            poll()
        push.leave()
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
        kept=bool(stored.retry_fields),
    )


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
