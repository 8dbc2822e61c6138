"""An entry is read strictly, and what is wrong with it is said with its name."""

import re

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from passerby.v1.queue_pb2 import Image, ImageBatch
from services.indexer.entries import Entry, read_entry


def read(**fields: bytes) -> Entry:
    return read_entry(b"1-0", {name.encode(): value for name, value in fields.items()}, 1)


def batch(*images: Image, gallery: str = "people") -> bytes:
    return ImageBatch(gallery=gallery, images=images).SerializeToString()


def test_a_batch_and_its_json_mean_the_same() -> None:
    json = b'{"gallery": "people", "images": [{"filename": "a", "data": "/9j/"}]}'
    image = Image(filename="a", data=b"\xff\xd8\xff")
    for entry in (read(batch=batch(image)), read(json=json)):
        assert (entry.gallery, entry.images, entry.dead_letters) == ("people", [image], [])


def test_no_gallery_means_the_default_one() -> None:
    assert read(batch=batch(Image(filename="a", data=b"x"), gallery="")).gallery == "default"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"nonsense": b"1"}, "'nonsense'.*`batch` or `json`"),
        ({"batch": b"", "json": b"{}"}, "must have one"),
        ({"batch": b"\xff\xff\xff\xff"}, "field batch is not a serialised"),
        ({"batch": batch(gallery="Not A Gallery!")}, "Not A Gallery!.*1 to 63 characters"),
        ({"batch": batch()}, "no images"),
        ({"json": b'{"gallery": "x", "images": [{"filename"'}, "field json is not a"),
        ({"json": b'{"pictures": []}'}, "pictures"),
        ({"json": b'{"images": [{"filename": "a", "data": 5}]}'}, "field json is not a"),
        ({"json": b"\xff\xfe"}, "field json is not a"),
        ({"json": b"[" * 100_000}, "field json is not a"),
    ],
)
def test_an_entry_that_is_not_a_batch_is_rejected_as_a_whole(
    fields: dict[str, bytes], reason: str
) -> None:
    entry = read(**fields)
    assert entry.images == []
    (letter,) = entry.dead_letters
    assert letter.filename == ""
    assert letter.retry_fields == {name.encode(): value for name, value in fields.items()}
    assert re.search(reason, letter.reason)


GOOD = Image(filename="good", data=b"x")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image(data=b"x"), "filename: it is empty"),
        (Image(filename="é" * 2049, data=b"x"), "filename: 4,098 bytes are more than"),
        (Image(filename="a"), "a: has neither data nor uri"),
        (Image(filename="a", data=b"x", digest=b"d" * 65), "a: digest: 65 bytes are more than"),
        (Image(filename="a", data=b"x", camera="é" * 129), "a: camera: 258 bytes"),
        (Image(filename="a", data=b"x", tags={"k": "v" * 65_536}), "a: tags: 65,545 bytes"),
        (
            Image(filename="a", data=b"x", captured_at=Timestamp(seconds=253_402_300_800)),
            "a: captured_at is not a time",
        ),
        (Image(filename="a", data=b"x", captured_at=Timestamp(nanos=-1)), "a: captured_at"),
    ],
)
def test_an_invalid_image_is_rejected_alone(image: Image, reason: str) -> None:
    entry = read(batch=batch(GOOD, image, GOOD))
    assert entry.images == [GOOD, GOOD]
    (letter,) = entry.dead_letters
    assert reason in letter.reason
    assert (letter.gallery, letter.filename) == ("people", image.filename)
    again = ImageBatch.FromString(letter.retry_fields[b"batch"])
    assert again == ImageBatch(gallery="people", images=[image])


def test_the_limits_themselves_are_allowed() -> None:
    image = Image(
        filename="é" * 2048,
        data=b"x",
        camera="c" * 256,
        captured_at=Timestamp(seconds=253_402_300_799, nanos=999_999_999),
        tags={"k": "v" * 65_000},
        digest=b"d" * 64,
    )
    assert read(batch=batch(image)).dead_letters == []


@given(st.dictionaries(st.sampled_from([b"batch", b"json", b"x"]), st.binary(), min_size=1))
def test_any_entry_becomes_images_or_dead_letters(fields: dict[bytes, bytes]) -> None:
    entry = read_entry(b"1-0", fields, 3)
    assert entry.images or entry.dead_letters
    assert all(letter.reason for letter in entry.dead_letters)


def test_an_entry_within_the_limits_is_taken_and_one_beyond_them_rejected_as_a_whole() -> None:
    image = Image(filename="a", data=b"x")
    most = batch(*[image] * 1024)
    assert len(read(batch=most).images) == 1024
    large = Image(filename="a", data=bytes(64 * 1024 * 1024 - 100))
    assert len(read(batch=batch(large)).images) == 1
    json = b'{"images": [{"filename": "a", "data": "%s"}]}'
    beyond = {
        "images of an entry: more than the limit of 1,024": {"batch": most + batch(image)},
        "images of an entry: 1,025 images are": {"json": json % b'"},{"data":"'.join([b""] * 1025)},
        "entry: 67,108,969 bytes are more than": {"batch": bytes(64 * 1024 * 1024 + 100)},
        "entry in JSON: 8,388,609 bytes are": {"json": json % bytes(8 * 1024 * 1024 - 46)},
    }
    for reason, fields in beyond.items():
        entry = read(**fields)
        (letter,) = entry.dead_letters
        assert entry.images == []
        assert reason in letter.reason
        assert "push its images again in smaller entries" in letter.reason


def test_a_small_entry_of_very_many_images_is_rejected_before_it_takes_memory() -> None:
    """600 kB of images without fields became 400,000 dead letters of 60 MB."""
    entry = read(batch=b"\x12\x00" * 300_000)
    (letter,) = entry.dead_letters
    assert letter.reason.startswith(
        "images of an entry: more than the limit of 1,024 images (fixed)"
    )
    entry = read(batch=b"\x1a\x00" * 300_000)
    assert [letter.filename for letter in entry.dead_letters] == [""]


def test_very_many_tags_are_rejected_by_their_bytes() -> None:
    image = Image(filename="a", data=b"x", tags={str(i): "" for i in range(100_000)})
    (letter,) = read(batch=batch(image)).dead_letters
    assert "a: fields beside the bytes" in letter.reason


def test_a_name_without_end_is_cut_in_the_letter_and_whole_in_what_is_pushed_again() -> None:
    image = Image(filename="n" * 100_000, data=b"x")
    (letter,) = read(batch=batch(image)).dead_letters
    assert len(letter.filename) == 4096
    assert ImageBatch.FromString(letter.retry_fields[b"batch"]).images[0] == image
    (letter,) = read(batch=batch(GOOD, gallery="g" * 100_000)).dead_letters
    assert len(letter.gallery) == 100


def test_the_reason_of_a_dead_letter_holds_no_signature() -> None:
    """The entry keeps it, to be pushed again."""
    signed = "https://s3.example/a.jpg?X-Amz-Signature=hush"
    entry = read(batch=batch(Image(filename="a", uri=signed)))
    entry.reject_image(entry.images[0], f"{signed}: not allowed")
    (letter,) = entry.dead_letters
    assert letter.reason == "https://s3.example/a.jpg?*** not allowed"
    assert b"hush" in letter.retry_fields[b"batch"]
