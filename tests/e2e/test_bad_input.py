"""Whatever comes in, the answer names the input and the reason, and the neighbours are served."""

import io

import pytest
from PIL import Image
from redis import Redis

from passerby import Client, Refused
from passerby.contract import DEAD_LETTERS_STREAM, INGEST_STREAM
from passerby.v1 import queue_pb2
from tests.support.hostile import FILENAMES
from tests.support.pictures import file_of, half_and_half, png_claiming
from tests.support.stack import People, dead_letters, enqueue, wait_until_indexed
from tests.support.stores import entries

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


def test_entries_that_are_not_batches_are_dead_lettered_and_the_next_one_is_indexed(
    people: People, client: Client, redis: Redis, gallery: str
) -> None:
    before = redis.xlen(DEAD_LETTERS_STREAM)
    redis.xadd(INGEST_STREAM, {"nonsense": "1"})
    redis.xadd(INGEST_STREAM, {"batch": b"\xff\xff\xff\xff"})
    redis.xadd(INGEST_STREAM, {"json": '{"gallery": "x", "images": [{"filename"'})
    redis.xadd(INGEST_STREAM, {"json": '{"gallery": "Not A Gallery!", "images": []}'})
    redis.xadd(INGEST_STREAM, {"batch": queue_pb2.ImageBatch(gallery=gallery).SerializeToString()})
    enqueue(redis, gallery, {"after.jpg": people.image(0)})
    wait_until_indexed(redis)
    assert [hit.filename for hit in client.search("a person", gallery=gallery)] == ["after.jpg"]
    letters = entries(redis, DEAD_LETTERS_STREAM)[before:]
    assert len(letters) == 5
    assert all(fields[b"reason"] for _, fields in letters)


def test_a_caption_of_unknown_words_is_refused_with_the_reason(
    client: Client, people_gallery: str
) -> None:
    """Each kind of caption that says nothing has its case beside the service that refuses it."""
    with pytest.raises(Refused, match=r"known .*\(zzyzx, 一个\)") as refused:
        client.search("zzyzx 一个", gallery=people_gallery)
    assert refused.value.code == "INVALID_ARGUMENT"


def test_case_punctuation_and_white_space_change_no_hit(
    client: Client, people_gallery: str
) -> None:
    clean = client.search("a woman in a red dress", gallery=people_gallery)
    noisy = client.search("\tA woman, in a (RED)  dress!!\n", gallery=people_gallery)
    assert [hit.filename for hit in noisy] == [hit.filename for hit in clean]


def test_unknown_words_are_reported_and_the_known_ones_find_their_person(
    people: People, client: Client, people_gallery: str
) -> None:
    record = people.records[0]
    caption = f"{record['captions'][0]} ☂ zzyzx \x07"
    hits = client.search(caption, gallery=people_gallery, explain=True)
    assert hits.explanation is not None
    assert list(hits.explanation.unknown_words) == ["☂", "zzyzx", "\x07"]
    assert record["id"] in {people.identities[hit.filename] for hit in hits}
