"""A gallery is deleted with all that belongs to it, and nothing else is."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import grpc
import pytest
from redis import Redis

from passerby.contract import DEAD_LETTER_COUNTS, DEAD_LETTERS_STREAM
from passerby.v1 import search_pb2, search_pb2_grpc
from tests.support.query import QueryService, people
from tests.support.stores import entries, milvus_client, put_aside

Request = search_pb2.DeleteGalleryRequest


@pytest.fixture
def stub(service: QueryService) -> Iterator[search_pb2_grpc.SearchStub]:
    with service.stub() as stub:
        yield stub


@pytest.fixture
def redis(service: QueryService) -> Iterator[Redis]:
    with Redis.from_url(service.environment["REDIS_URL"]) as redis:
        yield redis


def kept(service: QueryService, gallery: str) -> Path:
    return Path(unquote(urlsplit(service.environment["IMAGES_URI"]).path)) / gallery


def left_in_milvus(service: QueryService, gallery: str) -> list[str]:
    client = milvus_client(service.environment["MILVUS_URI"])
    stored = gallery.replace("-", "_")
    found = [name for name in client.list_collections() if name.endswith(f"_{stored}")]
    client.close()
    return found


def delete(service: QueryService, gallery: str) -> tuple[int, Any]:
    url = f"{service.http}/v1/galleries/{gallery}"
    status, body, _ = service.send(urllib.request.Request(url, method="DELETE"))
    return status, json.loads(body)


def test_nothing_of_a_deleted_gallery_is_left(
    service: QueryService, other_model: QueryService, redis: Redis, gallery: str
) -> None:
    other = f"{gallery}-2"
    for name in (gallery, other):
        service.fill(name, people(3), images={"0.jpg": b"\xff\xd8\xff"})
        other_model.fill(name, people(2))
        put_aside(redis, b"1-1", {b"batch": b""}, name, "broken.jpg")
        put_aside(redis, b"1-1", {b"batch": b""}, name, "")
    assert delete(service, gallery) == (200, {"deleted": "3", "deadLetters": "2"})
    assert left_in_milvus(service, gallery) == []
    assert list(redis.scan_iter(f"passerby:names:{gallery}:*", count=10_000)) == []
    assert not kept(service, gallery).exists()
    letters = [fields[b"gallery"].decode() for _, fields in entries(redis, DEAD_LETTERS_STREAM)]
    assert (letters.count(gallery), letters.count(other)) == (0, 2)
    assert not redis.hexists(DEAD_LETTER_COUNTS, gallery)
    assert service.get(f"/v1/galleries/{gallery}")[0] == 404
    assert delete(service, gallery)[0] == 404

    # The other one, whose name begins alike, is as it was.
    assert json.loads(service.get(f"/v1/galleries/{other}")[1])["count"] == "3"
    assert service.get(f"/v1/images/{other}/0.jpg")[0] == 200
    assert service.post("/v1/search", {"gallery": other, "filename": "0.jpg"})[0] == 200
    assert len(left_in_milvus(service, other)) == 2


def test_a_gallery_of_which_only_names_are_left_is_deleted(
    service: QueryService, stub: search_pb2_grpc.SearchStub, redis: Redis, gallery: str
) -> None:
    """As where its collection was dropped by hand."""
    service.fill(gallery, people(1))
    client = milvus_client(service.environment["MILVUS_URI"])
    client.drop_alias(f"gallery_{gallery.replace('-', '_')}")
    client.drop_collection(left_in_milvus(service, gallery)[0])
    client.close()
    assert stub.DeleteGallery(Request(gallery=gallery)).deleted == 0
    assert list(redis.scan_iter(f"passerby:names:{gallery}:*", count=10_000)) == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", grpc.StatusCode.INVALID_ARGUMENT),
        ("My Gallery", grpc.StatusCode.INVALID_ARGUMENT),
        ("never-pushed-to", grpc.StatusCode.NOT_FOUND),
    ],
)
def test_a_gallery_has_to_be_named_and_to_be_there(
    stub: search_pb2_grpc.SearchStub, name: str, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.RpcError, match="gallery") as error:
        stub.DeleteGallery(Request(gallery=name))
    assert error.value.code() == code


def test_an_empty_gallery_waits_for_no_model(
    stub: search_pb2_grpc.SearchStub, other_model: QueryService, gallery: str
) -> None:
    """As selftest's, once the model that it was made with is no longer served."""
    other_model.fill(gallery, people(1))
    stub.Delete(search_pb2.DeleteRequest(gallery=gallery, filenames=["0.jpg"]))
    state = stub.GetGallery(search_pb2.GetGalleryRequest(gallery=gallery))
    assert (state.count, state.model) == (0, "")
    answer = stub.Search(search_pb2.SearchRequest(gallery=gallery, caption="a man"))
    assert (list(answer.hits), answer.model) == ([], "")
