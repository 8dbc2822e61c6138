"""Cutting images into batches: nothing lost, nothing reordered, no batch beyond its bounds."""

from datetime import datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby import Failure, Image
from passerby.batches import batches

MAX_IMAGES, MAX_BYTES, MAX_IMAGE_BYTES = 5, 2_000, 3_000

images = st.lists(
    st.builds(Image, filename=st.text(max_size=20), data=st.binary(max_size=4_000)), max_size=30
)


@given(images)
def test_every_image_is_in_one_batch_in_order_or_refused(pushed: list[Image]) -> None:
    refused: list[Failure] = []
    made = list(
        batches(
            pushed,
            "g",
            refused.append,
            max_images=MAX_IMAGES,
            max_bytes=MAX_BYTES,
            max_image_bytes=MAX_IMAGE_BYTES,
        )
    )
    fitting = [i for i in pushed if i.message().ByteSize() <= MAX_IMAGE_BYTES]
    batched = [(image.filename, image.data) for batch in made for image in batch.images]
    assert batched == [(image.filename, image.data) for image in fitting]
    assert len(refused) == len(pushed) - len(fitting)
    for batch in made:
        assert batch.gallery == "g"
        assert 1 <= len(batch.images) <= MAX_IMAGES
        size = sum(image.ByteSize() for image in batch.images)
        assert size <= MAX_BYTES or len(batch.images) == 1


@given(images)
def test_neighbouring_batches_could_not_have_been_one(pushed: list[Image]) -> None:
    """Few large entries, not many small ones."""
    made = list(batches(pushed, "g", lambda _: None, max_images=MAX_IMAGES, max_bytes=MAX_BYTES))
    for batch, following in pairwise(made):
        size = sum(image.ByteSize() for image in batch.images) + following.images[0].ByteSize()
        assert len(batch.images) == MAX_IMAGES or size > MAX_BYTES


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image("a.jpg"), "data or a uri"),
        (Image("a.jpg", b"x", uri="file:///x"), "data or a uri"),
        (Image("a.jpg", b"x", captured_at=datetime(2026, 5, 1)), "no time zone"),
        (Image("\udcff.jpg", b"x"), "surrogate"),
        (Image("large.jpg", bytes(100)), "scale it down"),
    ],
)
def test_what_no_message_can_carry_is_refused_beside_its_neighbours(
    image: Image, reason: str
) -> None:
    refused: list[Failure] = []
    neighbour = Image("b.jpg", b"y")
    made = list(batches([image, neighbour], "g", refused.append, max_image_bytes=50))
    assert [i.filename for batch in made for i in batch.images] == ["b.jpg"]
    assert refused[0].filename == image.filename
    assert reason in refused[0].reason


def test_images_are_read_as_they_are_needed() -> None:
    """A million files never lie in memory together."""
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield Image(f"{taken}.jpg", b"x")

    next(batches(endless(), "g", lambda _: None, max_images=4))
    assert taken == 5
