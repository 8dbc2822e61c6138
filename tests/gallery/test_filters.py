"""A real Milvus evaluates the expressions, and agrees with Python whatever the literals hold."""

import asyncio
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passerby.v1.search_pb2 import Filter
from services.gallery.filters import both, expression, id_range, shown_key, stored_key
from services.gallery.vectors import Row, Vectors
from tests.support.hostile import LITERALS
from tests.support.stores import milvus_client

TIMES_US = [None, -62_135_596_800_000_000, -1, 0, 1_777_636_800_000_000, 253_402_300_799_999_999]


def rows() -> list[Row]:
    vector = np.array([1, 0], np.float32)
    made = [Row(n, vector, camera=text) for n, text in enumerate(LITERALS)]
    made += [Row(100 + n, vector, tags={text: "x"}) for n, text in enumerate(LITERALS)]
    made += [Row(200 + n, vector, tags={"k": text, "y": "2"}) for n, text in enumerate(LITERALS)]
    made += [Row(300 + n, vector, captured_at_us=time) for n, time in enumerate(TIMES_US)]
    return made


ROWS = rows()


def matches(row: Row, filter_: Filter) -> bool:
    """What the contract says, evaluated plainly."""
    at = row.captured_at_us
    return (
        (not filter_.cameras or row.camera in filter_.cameras)
        and (
            not filter_.HasField("captured_from")
            or (at is not None and at >= filter_.captured_from.ToMicroseconds())
        )
        and (
            not filter_.HasField("captured_to")
            or (at is not None and at < filter_.captured_to.ToMicroseconds())
        )
        and all(row.tags.get(key) == value for key, value in filter_.tags.items())
    )


Query = Callable[[str], list[int]]


@pytest.fixture(scope="module")
def query(milvus_server: str) -> Iterator[Query]:
    """An expression -> the sorted ids that Milvus finds by it."""

    async def fill() -> None:
        vectors = Vectors(milvus_server)
        await vectors.upsert("filters", "v", ROWS)
        await vectors.close()

    asyncio.run(fill())
    client = milvus_client(milvus_server)

    def run(text: str) -> list[int]:
        found = client.query("gallery_filters", filter=text, output_fields=["id"], limit=1000)
        return sorted(row["id"] for row in found)

    yield run
    client.drop_alias("gallery_filters")
    client.drop_collection("vectors_v_filters")
    client.close()


TEXTS = st.one_of(st.sampled_from(LITERALS), st.text(max_size=12))
MOMENTS = st.sampled_from([t for t in TIMES_US if t is not None]).map(
    lambda us: Timestamp(seconds=us // 1_000_000, nanos=us % 1_000_000 * 1000)
)
FILTERS = st.builds(
    Filter,
    cameras=st.lists(TEXTS, max_size=3),
    captured_from=st.none() | MOMENTS,
    captured_to=st.none() | MOMENTS,
    tags=st.dictionaries(TEXTS, TEXTS, max_size=2),
)


@pytest.mark.parametrize("text", LITERALS, ids=repr)
def test_each_literal_finds_exactly_its_rows(query: Query, text: str) -> None:
    for filter_ in (
        Filter(cameras=[text]),
        Filter(tags={text: "x"}),
        Filter(tags={"k": text}),
    ):
        wanted = [row.id for row in ROWS if matches(row, filter_)]
        assert query(expression(filter_)) == wanted, expression(filter_)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(filter_=FILTERS)
def test_milvus_and_python_agree(query: Query, filter_: Filter) -> None:
    text = expression(filter_)
    wanted = [row.id for row in ROWS if matches(row, filter_)]
    assert query(both(text, id_range(0, 2**63 - 1))) == wanted, text


def test_an_empty_filter_has_an_empty_expression() -> None:
    assert expression(Filter()) == ""
    assert both("", "id > 1") == both("id > 1", "") == "id > 1"


@given(st.text())
def test_a_tags_key_comes_back_as_it_was(key: str) -> None:
    assert shown_key(stored_key(key)) == key
    assert stored_key(key)
    assert not set(stored_key(key)) & set("[]\"'\\")
