"""The fuzzer finds what breaks a target, whatever way it breaks, and goes on behind it."""

import os
import signal

from tests.fuzz.__main__ import damaged, fuzz

SEEDS = [b"seed"]


def test_exceptions_and_crashes_are_found_by_number_and_the_rest_is_tried() -> None:
    crash, error = damaged(SEEDS, 3), damaged(SEEDS, 5)

    def attempt(data: bytes) -> None:
        if data == crash:
            os.kill(os.getpid(), signal.SIGKILL)
        assert data != error

    assert fuzz(attempt, SEEDS, range(8)) == {3: "SIGKILL", 5: "exception"}
