"""Whatever comes in, the answer names the input and the reason, and the neighbours are served."""

import io

import grpc
import pytest
from PIL import Image
from redis import Redis

from deploy.local.stack import Stack
from passerby import Client
from passerby.contract import INGEST_STREAM
from passerby.v1 import queue_pb2, search_pb2, search_pb2_grpc
from tests.support.hostile import FILENAMES
from tests.support.pictures import file_of, half_and_half, png_claiming
from tests.support.stack import People, dead_letters, enqueue, wait_until_indexed

UNREADABLE = {
    "truncated.jpg": file_of(half_and_half(size=(200, 400)), "JPEG")[:1500],
    "empty.jpg": b"",
    "text.jpg": b"I am a text",
    "huge.png": png_claiming(30_000, 30_000),
    "flat.png": png_claiming(0, 80),
}
READABLE = {
    "animated.gif": file_of(
        half_and_half(), "GIF", save_all=True, append_images=[Image.new("RGB", (40, 80))]
    ),
    "cmyk.jpg": file_of(half_and_half("CMYK"), "JPEG"),
    "grey.png": file_of(half_and_half("L")),
    "palette.png": file_of(half_and_half("P"), transparency=0),
}


def test_broken_images_do_not_hurt_their_neighbours(
    client: Client, redis: Redis, gallery: str
) -> None:
    enqueue(redis, gallery, UNREADABLE | READABLE)
    wait_until_indexed(redis)
    found = {hit.filename for hit in client.search("a person", gallery=gallery, top_k=100)}
    assert found == set(READABLE)
    letters = dead_letters(redis, gallery)
    assert set(letters) == set(UNREADABLE)
    assert all(letters.values())


def test_a_rotated_photograph_is_indexed_upright(
    people: People, client: Client, redis: Redis, gallery: str
) -> None:
    with Image.open(io.BytesIO(people.image(5))) as upright:
        lying = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated = file_of(lying, "JPEG", quality=95, exif=exif)
    enqueue(redis, gallery, {"rotated.jpg": rotated, "lying.jpg": file_of(lying)})
    wait_until_indexed(redis)
    scores = {
        hit.filename: hit.score for hit in client.search(image=people.image(5), gallery=gallery)
    }
    assert scores["rotated.jpg"] > 0.97
    assert scores["lying.jpg"] < scores["rotated.jpg"] - 0.05


def test_hostile_filenames_are_kept_as_they_are(
    people: People, client: Client, redis: Redis, gallery: str
) -> None:
    enqueue(redis, gallery, {name: people.image(i) for i, name in enumerate(FILENAMES)})
    wait_until_indexed(redis)
    found = {hit.filename for hit in client.search("a person", gallery=gallery, top_k=100)}
    assert found == set(FILENAMES)
    for name in FILENAMES:
        others = [hit.filename for hit in client.search(filename=name, gallery=gallery)]
        assert name not in others
        assert client.delete(gallery=gallery, filenames=[name]) == 1
    assert client.search("a person", gallery=gallery) == []
    assert dead_letters(redis, gallery) == {}


def test_what_is_no_batch_is_put_aside_and_the_next_entry_is_processed(
    people: People, client: Client, redis: Redis, gallery: str
) -> None:
    before = redis.xlen("passerby:dead-letters")
    redis.xadd(INGEST_STREAM, {"nonsense": "1"})
    redis.xadd(INGEST_STREAM, {"batch": b"\xff\xff\xff\xff"})
    redis.xadd(INGEST_STREAM, {"json": '{"gallery": "x", "images": [{"filename"'})
    redis.xadd(INGEST_STREAM, {"json": '{"gallery": "Not A Gallery!", "images": []}'})
    redis.xadd(INGEST_STREAM, {"batch": queue_pb2.ImageBatch(gallery=gallery).SerializeToString()})
    enqueue(redis, gallery, {"after.jpg": people.image(0)})
    wait_until_indexed(redis)
    assert [hit.filename for hit in client.search("a person", gallery=gallery)] == ["after.jpg"]
    letters = redis.xrevrange("passerby:dead-letters", count=5)
    assert redis.xlen("passerby:dead-letters") == before + 5
    assert all(fields[b"reason"] for _, fields in letters)


CAPTIONS = {
    "": "caption",
    "   \n ": "caption",
    "a person " * 11_000: "caption",
    "🚶🏽‍♀️👜": "known",
    "一个穿紫色长裙的女人": "known",
    "\x00\x01\x02\x1b[31m": "known",
    "zzyzx qwrtpsdf": "known",
}


@pytest.mark.parametrize("caption", CAPTIONS, ids=lambda text: repr(text[:12]))
def test_a_caption_that_says_nothing_is_refused_with_the_reason(
    stack: Stack, people_gallery: str, caption: str
) -> None:
    with grpc.insecure_channel(stack.query) as channel:
        stub = search_pb2_grpc.SearchStub(channel)
        with pytest.raises(grpc.RpcError, match=CAPTIONS[caption]) as refused:
            stub.Search(search_pb2.SearchRequest(gallery=people_gallery, caption=caption))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_words_among_noise_are_searched(client: Client, people_gallery: str) -> None:
    clean = client.search("a woman in a red dress", gallery=people_gallery)
    noisy = client.search("a woman ☂ in a RED, dress!!\x07", gallery=people_gallery)
    assert {hit.filename for hit in noisy} & {hit.filename for hit in clean}
