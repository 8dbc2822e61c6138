"""What a limit is: its value, the setting that moves it, and what is said to who goes beyond it."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self


@dataclass(frozen=True)
class Limit:
    """One row of docs/operations/limits.md.

    The module that enforces it defines it, with its other limits in `LIMITS`, and says `exceeded`
    to whoever goes beyond it, so that the table and the answer cannot differ.
    """

    what: str
    """For example `a JSON body`."""
    value: float
    """By default, where a setting moves it."""
    unit: str
    """In the plural, for example `bytes`."""
    beyond: str
    """What one gets, for example `HTTP 413`."""
    setting: str = ""
    """The variable that moves it; empty: it is fixed."""

    def at(self, value: float) -> Self:
        """The limit as the setting has it."""
        return replace(self, value=value)

    def exceeded(self, found: float | None = None) -> str:
        """Says the limit, its value and what moves it; found: how much there was."""
        limit = f"more than the limit of {_number(self.value)}"
        moved = f"set by {self.setting}" if self.setting else "fixed"
        if found is None:
            return f"{self.what}: {limit} {self.unit} ({moved})"
        return f"{self.what}: {_number(found)} {self.unit} are {limit} ({moved})"

    @property
    def shown(self) -> str:
        """The value as people read it."""
        number, unit = self.value, self.unit
        for smaller, larger in pairwise(("bytes", "KiB", "MiB", "GiB")):
            if unit == smaller and number >= 1024 and number % 1024 == 0:
                number, unit = number / 1024, larger
        return f"{_number(number)} {unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,}"
