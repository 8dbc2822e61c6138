"""The contract beyond the messages: a dead letter's fields in Redis, and which times are valid."""

from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from passerby.contract import DeadLetterEntry, is_valid_timestamp

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.builds(
        DeadLetterEntry,
        reason=names,
        gallery=names,
        filename=names,
        entry_id=st.binary(max_size=20),
        deliveries=st.integers(min_value=0),
        retry_fields=st.dictionaries(st.binary(max_size=20), st.binary(max_size=20), max_size=3),
    )
)
def test_a_dead_letter_is_read_as_it_was_written(letter: DeadLetterEntry) -> None:
    assert DeadLetterEntry.from_fields(letter.to_fields()) == letter


def test_a_dead_letters_fields_have_the_names_that_other_clients_know() -> None:
    letter = DeadLetterEntry("not an image", "mine", "1.jpg", b"5-0", 2, {b"batch": b"x"})
    assert letter.to_fields() == {
        b"reason": b"not an image",
        b"gallery": b"mine",
        b"filename": b"1.jpg",
        b"entry_id": b"5-0",
        b"deliveries": b"2",
        b"entry.batch": b"x",
    }


def test_a_dead_letter_written_by_hand_may_lack_fields() -> None:
    letter = DeadLetterEntry.from_fields({b"reason": b"\xff", b"note": b"mine"})
    assert letter == DeadLetterEntry("\N{REPLACEMENT CHARACTER}", "", "", b"", 0, {})


def seconds(time: datetime) -> int:
    return int(time.timestamp())


FIRST = seconds(datetime(1, 1, 1, tzinfo=UTC))
LAST = seconds(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))


@pytest.mark.parametrize(
    ("time", "valid"),
    [
        (Timestamp(seconds=FIRST), True),
        (Timestamp(seconds=FIRST - 1), False),
        (Timestamp(seconds=LAST, nanos=999_999_999), True),
        (Timestamp(seconds=LAST + 1), False),
        (Timestamp(nanos=1_000_000_000), False),
        (Timestamp(nanos=-1), False),
    ],
)
def test_a_timestamp_is_valid_from_the_year_1_to_9999(time: Timestamp, valid: bool) -> None:
    assert is_valid_timestamp(time) is valid
