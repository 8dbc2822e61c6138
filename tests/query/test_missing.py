"""What a push would change: told from names, records and vectors together."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import grpc
import pytest
from redis import Redis

from passerby.v1 import search_pb2, search_pb2_grpc
from services.gallery.digests import Digests, indexed
from services.gallery.names import Names
from services.gallery.redis_connection import connect
from tests.support.query import QueryService, people
from tests.support.stores import milvus_client

DIGESTS = {"0.jpg": b"zero", "1.jpg": b"one", "2.jpg": b"two"}


@pytest.fixture
def stub(service: QueryService) -> Iterator[search_pb2_grpc.SearchStub]:
    with service.stub() as stub:
        yield stub


def record(
    service: QueryService, gallery: str, digests: dict[str, bytes], *, kept: bool = True
) -> None:
    """As the indexer does, after the vectors."""

    async def write() -> None:
        redis = connect(service.environment["REDIS_URL"], 5)
        ids = await Names(redis).ids_of(gallery, list(digests))
        records = {
            id_: indexed(service.version, digest, kept=kept)
            for id_, digest in zip(ids, digests.values(), strict=True)
            if id_ is not None
        }
        await Digests(redis).put(gallery, records)
        await redis.aclose()

    asyncio.run(write())


@pytest.fixture
def pushed(service: QueryService, gallery: str) -> str:
    """A gallery of three images that are recorded."""
    service.fill(gallery, people(3))
    record(service, gallery, DIGESTS)
    return gallery


def missing(
    stub: search_pb2_grpc.SearchStub, gallery: str, digests: dict[str, bytes] = DIGESTS
) -> list[str]:
    images = [search_pb2.ImageDigest(filename=name, digest=it) for name, it in digests.items()]
    request = search_pb2.FindMissingRequest(gallery=gallery, images=images)
    return list(stub.FindMissing(request).filenames)


def test_what_is_searchable_with_the_same_content_is_not_missing(
    stub: search_pb2_grpc.SearchStub, pushed: str
) -> None:
    assert missing(stub, pushed) == []
    assert missing(stub, pushed, {**DIGESTS, "1.jpg": b"other", "3.jpg": b"three"}) == [
        "1.jpg",
        "3.jpg",
    ]
    assert missing(stub, f"{pushed}-2") == list(DIGESTS)


def test_of_a_name_that_is_asked_about_twice_either_may_be_missing(
    stub: search_pb2_grpc.SearchStub, pushed: str
) -> None:
    images = [search_pb2.ImageDigest(filename="0.jpg", digest=it) for it in (b"other", b"zero")]
    request = search_pb2.FindMissingRequest(gallery=pushed, images=images)
    assert list(stub.FindMissing(request).filenames) == ["0.jpg"]


def test_a_deleted_image_is_missing_and_no_longer_recorded(
    stub: search_pb2_grpc.SearchStub, service: QueryService, pushed: str
) -> None:
    def records() -> int:
        with Redis.from_url(service.environment["REDIS_URL"]) as redis:
            keys = redis.scan_iter(f"passerby:digests:{pushed}:*", count=10_000)
            return sum(int(redis.hlen(key)) for key in keys)

    assert records() == 3
    stub.Delete(search_pb2.DeleteRequest(gallery=pushed, filenames=["0.jpg"]))
    assert missing(stub, pushed) == ["0.jpg"]
    assert records() == 2
    stub.DeleteGallery(search_pb2.DeleteGalleryRequest(gallery=pushed))
    assert records() == 0


def test_images_that_an_older_release_indexed_are_missing(
    stub: search_pb2_grpc.SearchStub, service: QueryService, gallery: str
) -> None:
    service.fill(gallery, people(3))
    assert missing(stub, gallery) == list(DIGESTS)


def test_a_new_model_misses_what_it_has_not_embedded(
    stub: search_pb2_grpc.SearchStub, service: QueryService, gallery: str
) -> None:
    """The gallery is complete in another version, and half of it in that of new images."""
    old = replace(service, version="0123456789ab")
    old.fill(gallery, people(3))
    record(old, gallery, DIGESTS)
    assert missing(stub, gallery) == list(DIGESTS)
    service.fill(gallery, {"1.jpg": people(3)["1.jpg"]})
    record(service, gallery, {"1.jpg": b"one"})
    assert missing(stub, gallery) == ["0.jpg", "2.jpg"]


def without_vectors(service: QueryService, gallery: str) -> None:
    stored = gallery.replace("-", "_")
    client = milvus_client(service.environment["MILVUS_URI"])
    client.drop_alias(f"gallery_{stored}")
    client.drop_collection(f"vectors_{service.version}_{stored}")
    client.close()


def without_one(service: QueryService, gallery: str) -> None:
    """As after the restore of an older Milvus."""
    client = milvus_client(service.environment["MILVUS_URI"])
    ids = asyncio.run(ids_of(service, gallery))
    client.delete(f"gallery_{gallery.replace('-', '_')}", ids=ids)
    client.close()


async def ids_of(service: QueryService, gallery: str) -> list[int]:
    redis = connect(service.environment["REDIS_URL"], 5)
    ids = await Names(redis).ids_of(gallery, ["0.jpg"])
    await redis.aclose()
    return [id_ for id_ in ids if id_ is not None]


async def without_names(service: QueryService, gallery: str) -> None:
    redis = connect(service.environment["REDIS_URL"], 5)
    await Names(redis).forget_gallery(gallery)
    await redis.aclose()


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        (without_vectors, list(DIGESTS)),
        (without_one, ["0.jpg"]),
        (without_names, list(DIGESTS)),
    ],
)
def test_what_one_store_has_lost_is_missing(
    stub: search_pb2_grpc.SearchStub,
    service: QueryService,
    pushed: str,
    lost: Callable[[QueryService, str], Awaitable[None] | None],
    expected: list[str],
) -> None:
    coroutine = lost(service, pushed)
    if coroutine is not None:
        asyncio.run(coroutine)  # type: ignore[arg-type]
    assert missing(stub, pushed) == expected


def test_images_that_were_not_kept_are_missing_where_images_are_kept(
    stub: search_pb2_grpc.SearchStub, service: QueryService, gallery: str
) -> None:
    """Or the page would never show those that were pushed before IMAGES_URI was set."""
    service.fill(gallery, people(3))
    record(service, gallery, DIGESTS, kept=False)
    assert missing(stub, gallery) == list(DIGESTS)


@pytest.mark.parametrize(
    ("images", "field"),
    [
        ([search_pb2.ImageDigest(digest=b"1")], "images.filename"),
        ([search_pb2.ImageDigest(filename="x" * 4097, digest=b"1")], "images.filename"),
        ([search_pb2.ImageDigest(filename="x")], "images.digest"),
        ([search_pb2.ImageDigest(filename="x", digest=b"1" * 65)], "images.digest"),
        ([search_pb2.ImageDigest(filename="x", digest=b"1")] * 10_001, "images to ask for: 10,001"),
    ],
)
def test_a_question_that_is_wrong_names_the_field(
    stub: search_pb2_grpc.SearchStub, images: list[search_pb2.ImageDigest], field: str
) -> None:
    with pytest.raises(grpc.RpcError, match=field) as error:
        stub.FindMissing(search_pb2.FindMissingRequest(images=images))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_over_http_it_is_the_same(service: QueryService, pushed: str) -> None:
    images = [{"filename": "0.jpg", "digest": "emVybw=="}, {"filename": "1.jpg", "digest": "AA=="}]
    body = {"gallery": pushed, "images": images}
    assert service.post("/v1/find-missing", body) == (200, {"filenames": ["1.jpg"]})
