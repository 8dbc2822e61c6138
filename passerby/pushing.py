"""One push in progress: its entries, and what the indexer did with each of them."""

import contextlib
import time
import uuid
from collections.abc import Sequence
from typing import Any, cast

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from passerby.contract import (
    AWAITED,
    CONSUMER_GROUP,
    DEAD_LETTERS_STREAM,
    INGEST_STREAM,
    RECEIPTS,
    DeadLetterEntry,
    Outcome,
)
from passerby.errors import Unavailable
from passerby.queue_scripts import ADD
from passerby.values import Failure, Progress
from passerby.waiting import Say

# Bounds the memory that the queue takes in Redis: this many of the largest usual batches.
MAX_PENDING_ENTRIES = 64
# Of maxmemory; the rest is for what indexing them takes: names, records, acknowledgements.
MAX_MEMORY_SHARE = 0.8
POLL_S = 0.05
# So long nothing of ours has to be finished before somebody looks whether it is there at all, for
# which Redis has to copy it.
_LOST_AFTER_S = 1.0
# In one step, as it may be finished in between.
_IS_LOST = """
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return 0 end
return #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 and 1 or 0
"""


class Push:
    """Whether an image is searchable is read from the receipt that the indexer gives of its entry:
    ids say nothing, as clocks go wrong and others may take entries away."""

    def __init__(self, redis: Redis, stall_timeout_s: float) -> None:
        # redis-py's types answer for its blocking and its asynchronous client at once.
        self._redis: Any = redis
        self._stall_timeout_s = stall_timeout_s
        self._receipts = RECEIPTS + uuid.uuid4().hex
        self._waited_s = 0.0
        """Since the queue changed last. Neither images that are slow to read nor an outage of
        Redis, both of which show nothing of the queue, count."""
        self._seen: object = None
        self._no_receipt_since = time.monotonic()
        self.unfinished: dict[bytes, Sequence[str]] = {}
        """Entry -> the names of its images."""
        self._memory = 0, 0
        """What Redis uses and may use, if that leaves no room for an entry."""
        self._said_so = False
        self.queued = self.searchable = self.unchanged = 0
        self.failures: list[Failure] = []

    def add_if_room(self, batch: bytes, filenames: Sequence[str]) -> bool:
        """False if the queue is full, or Redis has to keep its memory for what is in it."""
        limits = (MAX_PENDING_ENTRIES, MAX_MEMORY_SHARE)
        entry, *self._memory = self._redis.eval(
            ADD, 2, INGEST_STREAM, AWAITED, *limits, batch, self._receipts
        )
        if not entry:
            return False
        self.unfinished[entry] = filenames
        self.queued += len(filenames)
        self._waited_s = 0
        self._no_receipt_since = time.monotonic()
        return True

    def full(self, say: Say) -> str:
        """Why there was no room; what an operator has to do about it is said once, and at once."""
        used, most = self._memory
        if not most:
            return "the queue is full"
        reason = (
            f"Redis is nearly full ({used:,} of {most:,} bytes, of which it keeps "
            f"{1 - MAX_MEMORY_SHARE:.0%} for indexing what is queued): raise its maxmemory "
            "(redis.maxMemory of the chart), or clear dead letters"
        )
        if not self._said_so:
            self._said_so = True
            say(f"Waiting: {reason}")
        return reason

    def poll(self) -> None:
        """Finds out what was finished, rejected and lost since the last poll."""
        receipts = self._redis.hgetall(self._receipts) if self.unfinished else {}
        for entry, receipt in receipts.items():
            if entry in self.unfinished:
                self._finish(entry, receipt)
        if receipts:
            # After they were taken: should this fail, they are read again and passed over.
            self._redis.hdel(self._receipts, *receipts)
            self._no_receipt_since = time.monotonic()
        elif self.unfinished and time.monotonic() - self._no_receipt_since > _LOST_AFTER_S:
            self._look_for_one()
        # All of it, as a queue that others filled shows nothing of ours while it moves.
        seen = self._state_of_queue()
        if receipts or seen != self._seen:
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

    def leave(self) -> None:
        """No more receipts are wanted; those that cannot be cancelled vanish by themselves."""
        with contextlib.suppress(RedisError):
            if self.unfinished:
                self._redis.hdel(AWAITED, *self.unfinished)
            self._redis.delete(self._receipts)

    def _finish(self, entry: bytes, receipt: bytes) -> None:
        filenames = self.unfinished[entry]
        outcome, *letters = receipt.decode().split()
        # Before anything changes here: Redis may be away just now.
        failures = [self._failure(letter) for letter in letters]
        del self.unfinished[entry]
        if outcome == Outcome.DELETED:
            self._fail(filenames, "it was deleted with its gallery while it was queued")
            return
        self.failures += failures
        whole = any(not failure.filename for failure in failures)
        self.searchable += 0 if whole else len(filenames) - len(failures)

    def _failure(self, letter_id: str) -> Failure:
        found = self._redis.xrange(DEAD_LETTERS_STREAM, letter_id, letter_id)
        if not found:
            return Failure("an image", "it was rejected, and its dead letter is gone by now")
        letter = DeadLetterEntry.from_fields(found[0][1])
        return Failure(letter.filename, letter.reason)

    def _look_for_one(self) -> None:
        """The entry that was added first; if it is there, the others are looked for later."""
        entry = next(iter(self.unfinished))
        if self._redis.eval(_IS_LOST, 2, INGEST_STREAM, self._receipts, entry):
            self._fail(
                self.unfinished.pop(entry),
                f"lost: its entry {entry.decode()} was taken off the queue, and by no indexer; "
                "push it again",
            )
            self._redis.hdel(AWAITED, entry)
            return
        self.unfinished[entry] = self.unfinished.pop(entry)
        self._no_receipt_since = time.monotonic()

    def _fail(self, filenames: Sequence[str], reason: str) -> None:
        self.failures += [Failure(filename, reason) for filename in filenames]

    def _state_of_queue(self) -> object:
        length = int(self._redis.xlen(INGEST_STREAM))
        try:
            groups = self._redis.xinfo_groups(INGEST_STREAM)
        except ResponseError:  # no stream yet
            return length
        for group in groups:
            if group["name"] == CONSUMER_GROUP.encode():
                return length, cast(bytes, group["last-delivered-id"]), int(group["pending"])
        return length
