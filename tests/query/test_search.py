"""Searches, deletions and galleries over gRPC, on real vectors, names and an untrained network."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from PIL import Image
from redis import Redis

from passerby.contract import DEAD_LETTER_COUNTS
from passerby.v1 import embedder_pb2, embedder_pb2_grpc, search_pb2, search_pb2_grpc
from tests.support.query import QueryService, people

Request = search_pb2.SearchRequest
A_TIME_US = 1_700_000_000_000_000


@pytest.fixture
def stub(service: QueryService) -> Iterator[search_pb2_grpc.SearchStub]:
    with service.stub() as stub:
        yield stub


@pytest.fixture
def redis(service: QueryService) -> Iterator[Redis]:
    with Redis.from_url(service.environment["REDIS_URL"]) as redis:
        yield redis


def names(response: search_pb2.SearchResponse) -> list[str]:
    return [hit.filename for hit in response.hits]


def rejected(
    call: Callable[[Any], object], request: object, match: str, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.RpcError, match=match) as error:
        call(request)
    assert error.value.code() == code


def embedded(service: QueryService, caption: str) -> np.ndarray:
    with grpc.insecure_channel(service.environment["EMBEDDER_ADDRESS"]) as channel:
        stub = embedder_pb2_grpc.EmbedderStub(channel)
        answer = stub.EmbedCaptions(embedder_pb2.EmbedCaptionsRequest(captions=[caption]))
    return np.frombuffer(answer.results[0].vector, "<f4")


def test_a_caption_finds_the_most_similar_image_first(
    service: QueryService, stub: search_pb2_grpc.SearchStub, gallery: str
) -> None:
    wanted = embedded(service, "a woman in a purple dress")
    service.fill(
        gallery,
        {"opposite.jpg": -wanted, "her.jpg": wanted},
        camera="gate",
        captured_at_us=A_TIME_US,
        tags={"floor": "1"},
    )
    answer = stub.Search(
        Request(gallery=gallery, caption="A woman in a purple, sparkling dress!", explain=True)
    )
    assert names(answer) == ["her.jpg", "opposite.jpg"]
    first, last = answer.hits
    assert -1 <= last.score < 0 < first.score <= 1
    assert (first.camera, first.captured_at.ToMicroseconds(), dict(first.tags)) == (
        "gate",
        A_TIME_US,
        {"floor": "1"},
    )
    assert answer.model == service.version
    assert answer.took.ToNanoseconds() > 0
    assert list(answer.explanation.unknown_words) == ["sparkling"]
    assert answer.explanation.embed_took.ToNanoseconds() > 0


def test_an_image_is_searched_by_its_content(
    stub: search_pb2_grpc.SearchStub, service: QueryService, gallery: str
) -> None:
    service.fill(gallery, people(2))
    file = io.BytesIO()
    Image.new("RGB", (32, 64), "red").save(file, "JPEG")
    answer = stub.Search(Request(gallery=gallery, image=file.getvalue()))
    assert len(answer.hits) == 2
    rejected(
        stub.Search,
        Request(gallery=gallery, image=b"I am a text"),
        "image: ",
        grpc.StatusCode.INVALID_ARGUMENT,
    )


def test_more_like_this_leaves_the_image_itself_out_on_every_page(
    stub: search_pb2_grpc.SearchStub, service: QueryService, gallery: str
) -> None:
    service.fill(gallery, people(9))
    pages = [
        stub.Search(Request(gallery=gallery, filename="0.jpg", top_k=3, offset=offset))
        for offset in (0, 3, 6, 9)
    ]
    expected = [f"{i}.jpg" for i in range(1, 9)]
    assert [names(page) for page in pages] == [expected[:3], expected[3:6], expected[6:], []]


def test_a_caption_of_unknown_words_is_rejected_with_the_reason(
    stub: search_pb2_grpc.SearchStub, service: QueryService, gallery: str
) -> None:
    service.fill(gallery, people(1))
    for caption in ("zzyzx qwrtpsdf", "一个穿紫色长裙的女人", "\x00\x1b[31m"):
        rejected(
            stub.Search,
            Request(gallery=gallery, caption=caption),
            "caption: .*known",
            grpc.StatusCode.INVALID_ARGUMENT,
        )


def test_every_condition_of_a_filter_holds(
    stub: search_pb2_grpc.SearchStub, service: QueryService, gallery: str
) -> None:
    late = A_TIME_US + 1_000_000
    hostile = 'a"] or id > 0 or camera in ["\'\\\n\0'
    service.fill(gallery, people(1, "early-"), camera="gate", captured_at_us=A_TIME_US)
    service.fill(gallery, people(1, "late-"), camera="yard", captured_at_us=late)
    service.fill(gallery, people(1, "timeless-"), camera=hostile[:-1], tags={'k"] e': "v"})

    def found(**conditions: Any) -> set[str]:
        filter_ = search_pb2.Filter(**conditions)
        answer = stub.Search(Request(gallery=gallery, caption="a man", filter=filter_))
        return {name.split("-")[0] for name in names(answer)}

    def at(microseconds: int) -> Timestamp:
        time = Timestamp()
        time.FromMicroseconds(microseconds)
        return time

    assert found() == {"early", "late", "timeless"}
    assert found(cameras=["gate", "nowhere"]) == {"early"}
    assert found(captured_from=at(late)) == {"late"}
    assert found(captured_to=at(late)) == {"early"}
    assert found(captured_from=at(A_TIME_US), captured_to=at(late + 1), cameras=["yard"]) == {
        "late"
    }
    assert found(cameras=[hostile[:-1]]) == {"timeless"}
    assert found(cameras=[hostile]) == set()
    assert found(tags={'k"] e': "v"}) == {"timeless"}
    assert found(tags={'k"] e': 'v" or id > 0 or "" == "'}) == set()


def test_unknown_galleries_and_filenames_are_not_found(
    stub: search_pb2_grpc.SearchStub, service: QueryService, gallery: str
) -> None:
    missing = grpc.StatusCode.NOT_FOUND
    rejected(stub.Search, Request(gallery=gallery, caption="a man"), "passerby push", missing)
    rejected(stub.GetGallery, search_pb2.GetGalleryRequest(gallery=gallery), "no gallery", missing)
    request = search_pb2.DeleteRequest(gallery=gallery, filenames=["x"])
    rejected(stub.Delete, request, "no gallery", missing)
    service.fill(gallery, people(1))
    rejected(stub.Search, Request(gallery=gallery, filename="x.jpg"), "'x.jpg'", missing)


def test_an_image_without_a_name_is_left_out_and_the_page_filled(
    stub: search_pb2_grpc.SearchStub, service: QueryService, gallery: str
) -> None:
    rows = people(12)
    nameless = {name: rows[name] for name in ("1.jpg", "2.jpg", "4.jpg")}
    service.fill(gallery, nameless, named=False)
    service.fill(gallery, {name: row for name, row in rows.items() if name not in nameless})
    answer = stub.Search(Request(gallery=gallery, filename="0.jpg", top_k=4))
    assert names(answer) == ["3.jpg", "5.jpg", "6.jpg", "7.jpg"]


def test_a_gallery_of_a_model_that_is_not_served_says_what_to_do(
    stub: search_pb2_grpc.SearchStub, other_model: QueryService, gallery: str
) -> None:
    other_model.fill(gallery, people(2))
    rejected(
        stub.Search,
        Request(gallery=gallery, caption="a man"),
        "0123456789ab.*EMBEDDER_MODELS",
        grpc.StatusCode.FAILED_PRECONDITION,
    )
    # What needs no embedder still works.
    assert names(stub.Search(Request(gallery=gallery, filename="0.jpg"))) == ["1.jpg"]


def test_deleting_by_name_counts_the_images_that_were_there(
    stub: search_pb2_grpc.SearchStub, service: QueryService, gallery: str
) -> None:
    service.fill(gallery, people(3), images={"0.jpg": b"\xff\xd8\xff"})
    path = f"/v1/images/{gallery}/0.jpg"
    assert service.get(path)[0] == 200
    request = search_pb2.DeleteRequest(gallery=gallery, filenames=["0.jpg", "0.jpg", "none.jpg"])
    assert stub.Delete(request).deleted == 1
    assert stub.Delete(request).deleted == 0
    assert names(stub.Search(Request(gallery=gallery, caption="a man"))) in (
        ["1.jpg", "2.jpg"],
        ["2.jpg", "1.jpg"],
    )
    assert service.get(path)[0] == 404
    assert stub.GetGallery(search_pb2.GetGalleryRequest(gallery=gallery)).count == 2


def test_deleting_by_filter_leaves_the_others(
    stub: search_pb2_grpc.SearchStub, service: QueryService, gallery: str
) -> None:
    service.fill(gallery, people(30, "gate-"), camera="gate")
    service.fill(gallery, people(2, "yard-"), camera="yard")
    filter_ = search_pb2.Filter(cameras=["gate"])
    request = search_pb2.DeleteRequest(gallery=gallery, filter=filter_)
    assert stub.Delete(request).deleted == 30
    found = names(stub.Search(Request(gallery=gallery, caption="a man")))
    assert sorted(found) == ["yard-0.jpg", "yard-1.jpg"]


@pytest.mark.parametrize(
    "request_",
    [
        search_pb2.DeleteRequest(),
        search_pb2.DeleteRequest(filter=search_pb2.Filter()),
        search_pb2.DeleteRequest(filenames=["x"], filter=search_pb2.Filter(cameras=["x"])),
        search_pb2.DeleteRequest(filenames=["x", ""]),
        search_pb2.DeleteRequest(filenames=["x"] * 10_001),
    ],
)
def test_a_deletion_without_a_clear_selection_is_rejected(
    stub: search_pb2_grpc.SearchStub, request_: search_pb2.DeleteRequest
) -> None:
    rejected(stub.Delete, request_, "filter|filenames", grpc.StatusCode.INVALID_ARGUMENT)


def test_galleries_are_listed_with_their_counts(
    stub: search_pb2_grpc.SearchStub, service: QueryService, redis: Redis, gallery: str
) -> None:
    refused_only = f"{gallery[:50]}-refused"
    service.fill(gallery, people(3))
    redis.hset(DEAD_LETTER_COUNTS, refused_only, 7)
    redis.hset(DEAD_LETTER_COUNTS, "Not A Gallery!", 1)
    listed = {
        state.gallery: state
        for state in stub.ListGalleries(search_pb2.ListGalleriesRequest()).galleries
    }
    assert list(listed) == sorted(listed)
    assert (listed[gallery].count, listed[gallery].model) == (3, service.version)
    assert (listed[refused_only].count, listed[refused_only].dead_letters) == (0, 7)
    assert "Not A Gallery!" not in listed
    request = search_pb2.GetGalleryRequest(gallery=refused_only)
    assert stub.GetGallery(request).dead_letters == 7
