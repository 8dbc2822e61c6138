"""Calls in hand and a second: at their limits and one beyond, of each client and of all."""

import contextlib

import pytest

from passerby.limits import Limit
from services.runtime import admission as module
from services.runtime.admission import BURST_S, Admission
from services.runtime.errors import Overloaded

CALLS = Limit("calls", 3, "calls", "", "MAX_CALLS")
SHARE = Limit("calls of one client", 2, "calls", "", "MAX_CALLS_PER_CLIENT")
RATE = Limit("calls a second", 8, "calls", "", "CALLS_PER_S")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_calls_in_hand_have_a_limit_and_each_client_a_share() -> None:
    admission = Admission(CALLS, SHARE, RATE)
    with contextlib.ExitStack() as slots:
        for client in ("a", "a", "b"):
            slots.enter_context(admission.slot(client))
        with pytest.raises(Overloaded, match=r"limit of 3 calls \(set by MAX_CALLS\)") as error:
            slots.enter_context(admission.slot("b"))
        assert error.value.retry_after_s == 1
    with contextlib.ExitStack() as slots:
        for _ in range(2):
            slots.enter_context(admission.slot("a"))
        with pytest.raises(Overloaded, match="MAX_CALLS_PER_CLIENT"):
            slots.enter_context(admission.slot("a"))
        slots.enter_context(admission.slot("b"))


def test_a_client_that_calls_too_often_is_told_when_to_come_back() -> None:
    clock = Clock()
    admission = Admission(CALLS, SHARE, RATE, clock)
    for _ in range(int(BURST_S * RATE.value)):
        admission.count("a")
    with pytest.raises(Overloaded, match=r"limit of 8 calls \(set by CALLS_PER_S\)") as error:
        admission.count("a")
    admission.count("b")
    assert error.value.retry_after_s == pytest.approx(1 / RATE.value)
    clock.now += error.value.retry_after_s
    admission.count("a")
    # At its rate a client goes on for ever.
    for _ in range(100):
        clock.now += 1 / RATE.value
        admission.count("a")


def test_no_more_clients_are_remembered_than_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CLIENTS", 3)
    admission = Admission(CALLS, SHARE, Limit("", 0.1, "", ""), Clock())
    for client in "abcdef":
        admission.count(client)
    for client in "def":
        with pytest.raises(Overloaded):
            admission.count(client)
    admission.count("a")
