"""How much the embedder is asked at once: more while it answers soon, much less when it does not
(additive increase, multiplicative decrease, as in TCP)."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator

# What keeps a large embedder busy, and what hurts none.
MAX_REQUESTS = 16
_FIRST_REQUESTS = 4


class Window:
    """The requests that may be in hand; others wait here, without a copy of their images."""

    def __init__(self) -> None:
        self._size = float(_FIRST_REQUESTS)
        self._in_hand = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._shrunk_at = 0.0

    @property
    def size(self) -> int:
        return int(self._size)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[float]:
        """Yields when the turn came, which its end is judged by."""
        while self._in_hand >= self.size:
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            try:
                await place
            except asyncio.CancelledError:
                self._let_in()
                raise
        self._in_hand += 1
        try:
            yield time.monotonic()
        finally:
            self._in_hand -= 1
            self._let_in()

    def answered(self) -> None:
        """A whole window of answers adds one request."""
        self._size = min(MAX_REQUESTS, self._size + 1 / self._size)
        self._let_in()

    def slow(self, since: float) -> None:
        """The embedder's queue is full, or so long that deadlines come near."""
        self._shrink(since, self._size / 2)

    def lost(self, since: float) -> None:
        """No answer: the embedder that comes back does not meet a crowd."""
        self._shrink(since, 1)

    def _shrink(self, since: float, size: float) -> None:
        # What was in hand together fails together, and that counts once.
        if since >= self._shrunk_at:
            self._size, self._shrunk_at = max(size, 1.0), time.monotonic()

    def _let_in(self) -> None:
        room = self.size - self._in_hand
        while self._waiting and room > 0:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                room -= 1
