"""One thing is not many."""

import pytest

from passerby.counted import counted


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 galleries"), (1, "1 gallery"), (2, "2 galleries")]
)
def test_a_number_takes_the_noun_that_fits(count: int, text: str) -> None:
    assert counted(count, "gallery", "galleries") == text
