"""Waits for a service that is away: with backoff, for a limited time, and says so once."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from passerby.errors import Refused, Unavailable

T = TypeVar("T")
Say = Callable[[str], None]

# Without a configuration of logging, Python prints its warnings on standard error.
log = logging.getLogger("passerby")

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 2.0


def wait_out(attempt: Callable[[], T], timeout_s: float, say: Say) -> T:
    """Repeats the attempt while it raises Unavailable, for `timeout_s` after it first did.

    say: gets one line when the waiting begins and one when it was worth it.
    """
    started, delay_s = None, _FIRST_DELAY_S
    while True:
        try:
            answer = attempt()
        except Unavailable as error:
            now = time.monotonic()
            if started is None:
                started = now
                if timeout_s > 0:
                    say(f"Waiting up to {timeout_s:g} s: {error}")
            remaining_s = started + timeout_s - now
            if remaining_s <= 0:
                raise
        else:
            if started is not None:
                say(f"It answers again, after {time.monotonic() - started:.0f} s.")
            return answer
        # Jitter: clients that were cut off together should not come back together.
        wait_s = delay_s * random.uniform(0.5, 1)  # noqa: S311 - no secret
        time.sleep(min(wait_s, remaining_s))
        delay_s = min(2 * delay_s, _LONGEST_DELAY_S)


class Peer:
    """A service as one client sees it: until its first answer it is waited for.

    In the first seconds of a pod, network policies may not know its address yet, and what started
    with it may not listen yet.
    """

    def __init__(self, connect_timeout_s: float, say: Say) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._say = say

    def call(self, attempt: Callable[[], T], outage_timeout_s: float = 0) -> T:
        """Makes the attempt. Unavailable is waited out for `outage_timeout_s`, and before the
        first answer for `connect_timeout_s` at least."""
        timeout_s = max(outage_timeout_s, self._connect_timeout_s)
        try:
            answer = wait_out(attempt, timeout_s, self._say)
        except Refused:
            self._connect_timeout_s = 0
            raise
        self._connect_timeout_s = 0
        return answer
