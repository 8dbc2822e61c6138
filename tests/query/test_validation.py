"""Each rule of search.proto: a wrong field is named, a right request passes."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from passerby.v1 import search_pb2
from services.query.validation import filter_expression, gallery_name, validated
from services.runtime.errors import InvalidRequest

Request = search_pb2.SearchRequest


def described(**fields: Any) -> search_pb2.SearchRequest:
    """A right request but for what the fields say."""
    return Request(caption="a man", **fields)


WRONG = {
    "no query": (Request(), "caption, image and filename"),
    "empty caption": (Request(caption=""), "caption"),
    "blank caption": (Request(caption=" \n\t"), "caption"),
    "long caption": (Request(caption="x" * 2001), "caption: 2,001 characters are"),
    "empty image": (Request(image=b""), "image"),
    "empty filename": (Request(filename=""), "filename"),
    "long filename": (Request(filename="é" * 2049), "filename: 4,098"),
    "top_k of 0": (described(top_k=0), "top_k: 0"),
    "negative top_k": (described(top_k=-1), "top_k: -1"),
    "top_k of millions": (described(top_k=10_000_000), "top_k: 10000000"),
    "negative offset": (described(offset=-1), "offset: -1"),
    "window too deep": (described(offset=16_373), "offset . top_k: 16,385"),
    "name of a gallery": (described(gallery="A b"), "gallery: 'A b'"),
    "long name of a gallery": (described(gallery="a" * 64), "gallery: 'aaa"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_search_is_rejected_and_its_field_named(case: str) -> None:
    request, message = WRONG[case]
    with pytest.raises(InvalidRequest, match=message):
        validated(request)


def test_the_limits_themselves_are_allowed() -> None:
    assert validated(Request(caption="x" * 2000)).top_k == 12
    assert validated(Request(filename="é" * 2048)).offset == 0
    assert validated(described(top_k=1000, offset=15_384)).offset == 15_384
    assert validated(described(top_k=1)).top_k == 1


def test_a_gallery_that_is_left_out_is_the_default_one() -> None:
    assert gallery_name("") == "default"
    assert gallery_name("gate-2") == "gate-2"


def at(seconds: int, nanos: int = 0) -> Timestamp:
    return Timestamp(seconds=seconds, nanos=nanos)


@pytest.mark.parametrize(
    ("filter_", "message"),
    [
        (search_pb2.Filter(captured_from=at(2**62)), "filter.captured_from"),
        (search_pb2.Filter(captured_to=at(0, -1)), "filter.captured_to"),
        (search_pb2.Filter(captured_from=at(9), captured_to=at(9)), "filter.captured_from"),
        (search_pb2.Filter(tags={"": "x"}), "filter.tags"),
        (search_pb2.Filter(cameras=["x" * 70_000]), "filter: "),
        (search_pb2.Filter(cameras=["x"] * 20_000), "filter: 80,000"),
    ],
)
def test_a_malformed_filter_is_rejected_and_its_field_named(
    filter_: search_pb2.Filter, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        filter_expression(filter_)


def test_a_filter_without_conditions_is_an_empty_expression() -> None:
    assert filter_expression(search_pb2.Filter()) == ""
