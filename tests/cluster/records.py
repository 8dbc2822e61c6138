"""What each scenario took and cost: the tables at the end of a run."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from tests.cluster.release import Held
from tests.cluster.search_load import SearchLoad


@dataclass
class Record:
    """A row; what a scenario does not measure stays None."""

    scenario: str
    seconds: float = 0.0
    searches: int | None = None
    failed: int = 0
    outages: str = ""
    """From when to when searches failed, in seconds since the first search."""
    slowest_s: float = 0.0
    lost: int | None = None
    double: int = 0
    note: str = ""
    outcome: str = ""

    def load(self, load: SearchLoad) -> None:
        self.searches, self.failed = load.searches, load.failed
        self.slowest_s = load.slowest_s
        self.outages = ", ".join(f"{start:.1f}-{end:.1f}" for start, end in load.outages)

    def held(self, held: Held, pushed: Sequence[str]) -> None:
        self.lost, self.double = held.lost(pushed), held.double

    def row(self) -> list[str]:
        searched = self.searches is not None
        return [
            self.scenario,
            self.outcome,
            f"{self.seconds:.0f}",
            f"{self.searches:,}" if searched else "",
            str(self.failed) if searched else "",
            self.outages,
            f"{self.slowest_s:.1f}" if searched else "",
            "" if self.lost is None else f"{self.lost}/{self.double}",
            self.note,
        ]


HEADINGS = [
    "scenario", "outcome", "seconds", "searches", "failed", "from-to", "slowest", "lost/double",
    "note",
]  # fmt: skip
RECORDS = pytest.StashKey[list[Record]]()


@dataclass(frozen=True)
class Fired:
    """An alert: a row of the other table."""

    alert: str
    cause: str
    seconds: float
    """From the cause until it fired."""
    text: str

    def row(self) -> list[str]:
        return [self.alert, self.cause, f"{self.seconds:.0f}", self.text]


FIRED = pytest.StashKey[list[Fired]]()


def table(records: Sequence[Record]) -> list[str]:
    return _aligned([HEADINGS, *(record.row() for record in records)])


def alerts_table(fired: Sequence[Fired]) -> list[str]:
    return _aligned([["alert", "cause", "seconds", "text"], *(one.row() for one in fired)])


def _aligned(rows: Sequence[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
