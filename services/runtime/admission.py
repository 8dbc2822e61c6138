"""Which calls are taken up: so many at a time and a second, of all clients and of each.

Nothing waits here: what is too much is answered at once, with the time to come back.
"""

import contextlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator

from passerby.limits import Limit
from services.runtime.errors import Overloaded

# A client that was silent may send so many seconds' worth of its calls at once.
BURST_S = 2.0
# Of clients whose rate is known; the one that was silent longest is forgotten first.
MAX_CLIENTS = 10_000
# In which most calls are answered.
_SOON_S = 1.0


class Admission:
    """calls: in hand together; share: those of one client; rate: calls of one client a second."""

    def __init__(
        self, calls: Limit, share: Limit, rate: Limit, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._calls = calls
        self._share = share
        self._rate = rate
        self._clock = clock
        self._in_hand: Counter[str] = Counter()
        # Client -> when it has used up what it was given (the generic cell rate algorithm).
        self._used_until: OrderedDict[str, float] = OrderedDict()

    def count(self, client: str) -> None:
        """Raises Overloaded if the client calls too often."""
        now = self._clock()
        each_s = 1 / self._rate.value
        used_until = max(now, self._used_until.get(client, now)) + each_s
        wait_s = used_until - now - max(BURST_S, each_s)
        if wait_s > 0:
            raise _overloaded(self._rate, wait_s)
        self._used_until[client] = used_until
        self._used_until.move_to_end(client)
        if len(self._used_until) > MAX_CLIENTS:
            self._used_until.popitem(last=False)

    @contextlib.contextmanager
    def slot(self, client: str) -> Iterator[None]:
        """The body answers a call. Raises Overloaded if too many are in hand."""
        if self._in_hand.total() >= self._calls.value:
            raise _overloaded(self._calls, _SOON_S)
        if self._in_hand[client] >= self._share.value:
            raise _overloaded(self._share, _SOON_S)
        self._in_hand[client] += 1
        try:
            yield
        finally:
            self._in_hand[client] -= 1
            if not self._in_hand[client]:
                del self._in_hand[client]


def _overloaded(limit: Limit, wait_s: float) -> Overloaded:
    error = Overloaded(f"{limit.exceeded()}; try again in {wait_s:.1f} s")
    error.retry_after_s = wait_s
    return error
