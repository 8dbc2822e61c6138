"""Dynamic batching: many small requests in, few device-sized forwards out."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar, get_args

import numpy as np
import structlog
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge, Histogram

from passerby import tracing
from services.runtime.errors import InvalidRequest, Overloaded, ServiceError

if TYPE_CHECKING:  # batching needs no torch, which the device brings
    from services.embedder.device import Device

log = structlog.get_logger()

Item = TypeVar("Item")

LABELS = ["model", "modality"]
IN_HAND = Gauge("passerby_embedder_in_hand", "Items accepted and not answered yet.", LABELS)
BATCH = Histogram(
    "passerby_embedder_batch_items",
    "Items in one forward pass.",
    LABELS,
    buckets=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
)
WAIT = Histogram(
    "passerby_embedder_wait_seconds",
    "Time that the oldest item of a batch waited for its forward pass.",
    LABELS,
)
FORWARD = Histogram("passerby_embedder_forward_seconds", "Time of one forward pass.", LABELS)
EMBEDDED = Counter("passerby_embedder_embedded", "Items that became vectors.", LABELS)
REFUSED = Counter(
    "passerby_embedder_refused",
    "Items without a vector: overloaded, invalid, abandoned by their caller, or failed.",
    [*LABELS, "reason"],
)


Reason = Literal["overloaded", "invalid", "abandoned", "failed"]


class ForwardFailed(ServiceError):
    """The device or the network failed on a batch; the next one may well succeed."""


@dataclass
class _Waiting(Generic[Item]):
    item: Item
    answer: asyncio.Future[NDArray[np.float32]]
    caller: "tracing.SpanContext | None"
    since: float


class Batcher(Generic[Item]):
    """The queue and the batch builder of one model and modality.

    Whatever waits when the device becomes free is the next batch, up to `max_batch`; nothing is
    delayed to fill one up. What somebody waits for goes before bulk, and shares no batch with it.
    """

    def __init__(
        self,
        forward: Callable[[Sequence[Item]], NDArray[np.float32]],
        device: "Device",
        *,
        model: str,
        modality: str,
        max_batch: int,
        max_queue: int,
        length_bucket: Callable[[Item], int] = lambda _: 0,
    ) -> None:
        """forward: items -> (items, dimension) float32; runs on one of the device's threads.

        length_bucket: only items of one bucket share a batch, so that a short one never waits for
        a long one.
        """
        self.forward = forward
        self.device = device
        self.model = model
        self.modality = modality
        self.max_batch = max_batch
        self.max_queue = max_queue
        self.length_bucket = length_bucket
        # By whether they are bulk, and by length.
        self._queues: dict[tuple[bool, int], deque[_Waiting[Item]]] = {}
        self._in_hand = {False: 0, True: 0}
        self._arrived = asyncio.Event()
        # From the start, at 0: of a series that begins with its first event `rate` misses that one.
        for series in (IN_HAND, BATCH, WAIT, FORWARD, EMBEDDED):
            series.labels(model, modality)
        for reason in get_args(Reason):
            REFUSED.labels(model, modality, reason)

    @contextmanager
    def admit(self, count: int, *, bulk: bool = False) -> Iterator[None]:
        """Holds room for a request's items until they are answered; bulk has a room of its own.

        Raises InvalidRequest if they can never fit and Overloaded if they do not fit now.
        """
        if count > self.max_queue:
            self.count_refused("invalid", count)
            raise InvalidRequest(
                f"{self.modality}: {count} in one request are more than {self.max_queue}, the most "
                f"that are taken at once; split the request"
            )
        if self._in_hand[bulk] + count > self.max_queue:
            self.count_refused("overloaded", count)
            raise Overloaded(
                f"{self.modality}: {self._in_hand[bulk]} are in hand for {self.model} and {count} "
                f"more exceed {self.max_queue}; send them again in a moment, or run more embedders"
            )
        self._count_in_hand(count, bulk)
        try:
            yield
        finally:
            self._count_in_hand(-count, bulk)

    async def embed(self, item: Item, *, bulk: bool = False) -> NDArray[np.float32]:
        """One item -> (dimension,). Raises ForwardFailed. Cancelling takes it off the queue.

        bulk: may wait until all that is not bulk has had its turn.
        """
        answer = asyncio.get_running_loop().create_future()
        waiting = _Waiting(item, answer, tracing.current(), time.perf_counter())
        queue = self._queues.setdefault((bulk, self.length_bucket(item)), deque())
        queue.append(waiting)
        self._arrived.set()
        return await waiting.answer

    async def run(self) -> None:
        """Answers what comes in, until cancelled."""
        async with asyncio.TaskGroup() as passes:
            while True:
                await self._arrived.wait()
                await self.device.turns.acquire(lambda: self._next()[0])
                passes.create_task(self._answer(self._take())).add_done_callback(
                    lambda _: self.device.turns.release()
                )

    def _next(self) -> tuple[bool, int]:
        """The queue whose turn it is: bulk last, else that whose oldest item has waited longest."""
        return min(self._queues, key=lambda key: (key[0], self._queues[key][0].since))

    def _take(self) -> list[_Waiting[Item]]:
        """The next batch, all of one queue, without the items whose caller has gone."""
        batch: list[_Waiting[Item]] = []
        while self._queues and not batch:
            key = self._next()
            queue = self._queues[key]
            while queue and len(batch) < self.max_batch:
                waiting = queue.popleft()
                if waiting.answer.cancelled():
                    self.count_refused("abandoned")
                else:
                    batch.append(waiting)
            if not queue:
                del self._queues[key]
        if not self._queues:
            self._arrived.clear()
        return batch

    async def _answer(self, batch: list[_Waiting[Item]]) -> None:
        if not batch:
            return
        start = time.perf_counter()
        BATCH.labels(self.model, self.modality).observe(len(batch))
        WAIT.labels(self.model, self.modality).observe(start - batch[0].since)
        loop = asyncio.get_running_loop()
        items = [waiting.item for waiting in batch]
        try:
            vectors = await loop.run_in_executor(self.device.threads, self._halving, items)
            seconds = time.perf_counter() - start
        except Exception as error:
            log.exception(
                "batch_failed", model=self.model, modality=self.modality, items=len(batch)
            )
            self.count_refused("failed", len(batch))
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(
                        ForwardFailed(
                            f"{self.modality}: the forward pass of {self.model} failed "
                            f"({type(error).__name__}); the embedder's log has the details"
                        )
                    )
            return
        EMBEDDED.labels(self.model, self.modality).inc(len(batch))
        for waiting, vector in zip(batch, vectors, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(vector)
        self._passed([waiting.caller for waiting in batch], seconds)

    def _passed(self, callers: Sequence["tracing.SpanContext | None"], seconds: float) -> None:
        """Measures a forward pass, and tells the traces of all who had an item in it."""
        FORWARD.labels(self.model, self.modality).observe(seconds, tracing.exemplar(callers[0]))
        tracing.shared(
            f"forward {self.modality}",
            callers,
            seconds,
            {"passerby.model": self.model, "passerby.batch.items": len(callers)},
        )

    def _halving(self, items: list[Item]) -> NDArray[np.float32]:
        """The forward pass; where the device's memory is too small, in halves from now on."""
        try:
            return self.forward(items)
        except self.device.out_of_memory:
            if len(items) == 1:
                raise
        # Outside of the handler, whose traceback would keep the failed pass's tensors alive.
        half = len(items) // 2
        self.max_batch = min(self.max_batch, len(items) - half)
        log.warning("out_of_memory", model=self.model, max_batch=self.max_batch)
        return np.concatenate([self._halving(items[:half]), self._halving(items[half:])])

    def count_refused(self, reason: Reason, count: int = 1) -> None:
        REFUSED.labels(self.model, self.modality, reason).inc(count)

    def _count_in_hand(self, change: int, bulk: bool) -> None:
        self._in_hand[bulk] += change
        IN_HAND.labels(self.model, self.modality).set(sum(self._in_hand.values()))
