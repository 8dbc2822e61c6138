"""Each rule of search.proto: what is wrong is named by its field, what is right passes."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from passerby.v1 import search_pb2
from services.query.http.media import image_type
from services.query.validation import filter_expression, gallery_name, question
from services.runtime.errors import InvalidRequest

Request = search_pb2.SearchRequest
CAPTION = {"caption": "a man"}

REFUSED = {
    "no query": (Request(), "caption, image and filename"),
    "empty caption": (Request(caption=""), "caption"),
    "blank caption": (Request(caption=" \n\t"), "caption"),
    "long caption": (Request(caption="x" * 2001), "caption: 2001"),
    "empty image": (Request(image=b""), "image"),
    "empty filename": (Request(filename=""), "filename"),
    "long filename": (Request(filename="é" * 2049), "filename: 4098"),
    "top_k of 0": (Request(top_k=0, **CAPTION), "top_k: 0"),
    "negative top_k": (Request(top_k=-1, **CAPTION), "top_k: -1"),
    "top_k of millions": (Request(top_k=10_000_000, **CAPTION), "top_k: 10000000"),
    "negative offset": (Request(offset=-1, **CAPTION), "offset: -1"),
    "window too deep": (Request(offset=16_373, **CAPTION), "offset: 16373"),
    "name of a gallery": (Request(gallery="A b", **CAPTION), "gallery: 'A b'"),
    "long name of a gallery": (Request(gallery="a" * 64, **CAPTION), "gallery: 'aaa"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_named_by_its_field(case: str) -> None:
    request, message = REFUSED[case]
    with pytest.raises(InvalidRequest, match=message):
        question(request)


def test_the_limits_themselves_are_allowed() -> None:
    assert question(Request(caption="x" * 2000)).top_k == 12
    assert question(Request(filename="é" * 2048)).offset == 0
    assert question(Request(top_k=1000, offset=15_384, **CAPTION)).offset == 15_384
    assert question(Request(top_k=1, **CAPTION)).top_k == 1


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
        (search_pb2.Filter(cameras=["x"] * 20_000), "filter: 20000 cameras"),
    ],
)
def test_a_malformed_filter_is_named_by_its_field(filter_: search_pb2.Filter, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        filter_expression(filter_)


def test_a_filter_without_conditions_is_no_expression() -> None:
    assert filter_expression(search_pb2.Filter()) == ""


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "image/avif"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", None),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_only_raster_images_are_called_images(data: bytes, media_type: str | None) -> None:
    assert image_type(data) == media_type
