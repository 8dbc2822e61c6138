"""Cutting images into batches: nothing lost, nothing reordered, no batch beyond its bounds."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerby import Failure, Image
from passerby.batches import (
    MAX_BATCH_BYTES,
    MAX_BATCH_IMAGES,
    MAX_IMAGE_BYTES,
    batches,
    messages,
)
from passerby.v1 import queue_pb2

# (count, bytes) of images that follow each other: many small ones, a few that fill a batch.
runs = st.lists(
    st.tuples(st.integers(1, 2 * MAX_BATCH_IMAGES), st.integers(0, 1_000))
    | st.tuples(st.integers(1, 4), st.integers(MAX_BATCH_BYTES // 4, MAX_BATCH_BYTES // 2))
    | st.tuples(st.just(1), st.integers(MAX_BATCH_BYTES - 50, MAX_BATCH_BYTES + 50)),
    max_size=3,
)
# An example may be some 10 MiB of images.
large = settings(max_examples=50, deadline=None)


def images_of(sizes: list[tuple[int, int]]) -> list[Image]:
    """The images of such runs; each has a name of its own."""
    each = [size for count, size in sizes for _ in range(count)]
    return [Image(f"{number}.jpg", bytes(size)) for number, size in enumerate(each)]


def cut_up(
    images: Iterable[Image], reject: Callable[[Failure], None] = lambda _: None
) -> Iterator[queue_pb2.ImageBatch]:
    return batches(messages(images, reject), "g")


@large
@given(runs)
def test_every_image_is_in_one_batch_in_order(sizes: list[tuple[int, int]]) -> None:
    pushed = images_of(sizes)
    rejected: list[Failure] = []
    cut = list(cut_up(pushed, rejected.append))
    batched = [(image.filename, image.data) for batch in cut for image in batch.images]
    assert batched == [(image.filename, image.data) for image in pushed]
    assert rejected == []
    for batch in cut:
        assert batch.gallery == "g"
        assert 1 <= len(batch.images) <= MAX_BATCH_IMAGES
        size = sum(image.ByteSize() for image in batch.images)
        assert size <= MAX_BATCH_BYTES or len(batch.images) == 1


@large
@given(runs)
def test_neighbouring_batches_could_not_have_been_one(sizes: list[tuple[int, int]]) -> None:
    """Few large entries, not many small ones."""
    cut = list(cut_up(images_of(sizes)))
    for batch, following in pairwise(cut):
        size = sum(image.ByteSize() for image in batch.images) + following.images[0].ByteSize()
        assert len(batch.images) == MAX_BATCH_IMAGES or size > MAX_BATCH_BYTES


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image("a.jpg"), "data or a uri"),
        (Image("a.jpg", b"x", uri="file:///x"), "data or a uri"),
        (Image("a.jpg", b"x", captured_at=datetime(2026, 5, 1)), "no time zone"),
        (Image("\udcff.jpg", b"x"), "surrogate"),
        (Image("large.jpg", bytes(MAX_IMAGE_BYTES)), "scale the image down"),
    ],
    ids=["no-source", "two-sources", "no-time-zone", "name-that-is-not-text", "too-large"],
)
def test_an_image_that_fits_no_message_is_rejected_and_its_neighbour_is_not(
    image: Image, reason: str
) -> None:
    rejected: list[Failure] = []
    cut = list(cut_up([image, Image("b.jpg", b"y")], rejected.append))
    assert [i.filename for batch in cut for i in batch.images] == ["b.jpg"]
    (failure,) = rejected
    assert failure.filename == image.filename
    assert reason in failure.reason


def test_an_image_of_just_the_limit_is_pushed_and_one_byte_more_is_rejected() -> None:
    data = bytes(MAX_IMAGE_BYTES - 100)
    room = MAX_IMAGE_BYTES - Image("1.jpg", data).message().ByteSize()
    rejected: list[Failure] = []
    images = [Image(f"{more}.jpg", data + bytes(room + more)) for more in (0, 1)]
    (batch,) = cut_up(images, rejected.append)
    assert [image.filename for image in batch.images] == ["0.jpg"]
    assert [failure.filename for failure in rejected] == ["1.jpg"]


def test_images_are_read_as_they_are_needed() -> None:
    """A million files never lie in memory together."""
    taken = 0

    def endless() -> Iterator[Image]:
        nonlocal taken
        while True:
            taken += 1
            yield Image(f"{taken}.jpg", b"x")

    next(cut_up(endless()))
    assert taken == MAX_BATCH_IMAGES + 1
