"""Augmented images stay images, each is changed on its own, and the seed decides how."""

import pytest
import torch

from training.data.augment import augment, normalise
from training.recipe import RECOMMENDED, Augmentation

NOTHING = Augmentation(flip=False)


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (8, 16, 8, 3), dtype=torch.uint8, generator=generator)


def test_bytes_become_numbers_from_minus_one_to_one_channels_last() -> None:
    pixels = torch.tensor([0, 255, 0, 255, 0, 255], dtype=torch.uint8).view(1, 1, 2, 3)
    numbers = normalise(pixels)
    assert numbers.shape == (1, 3, 1, 2)
    assert numbers[0, :, 0, 0].tolist() == [-1, 1, -1]
    assert normalise(torch.zeros(2, 4, 4, 3, dtype=torch.uint8)).is_contiguous(
        memory_format=torch.channels_last
    )


def test_nothing_wanted_changes_nothing(images: torch.Tensor) -> None:
    assert torch.equal(augment(images, NOTHING, 1), images)


def test_the_seed_decides_and_what_others_draw_stays_the_same(images: torch.Tensor) -> None:
    wanted = RECOMMENDED.augmentation
    torch.manual_seed(7)
    first = augment(images, wanted, 1)
    drawn = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(1))
    assert torch.equal(augment(images, wanted, 1), first)
    assert not torch.equal(augment(images, wanted, 2), first)


def test_shape_and_type_are_kept_and_images_differ(images: torch.Tensor) -> None:
    same = images[:1].expand(8, -1, -1, -1)
    changed = augment(same, RECOMMENDED.augmentation, 1)
    assert changed.shape == same.shape
    assert changed.dtype == torch.uint8
    assert len({image.sum().item() for image in changed}) == 8


def test_flip_mirrors_some_images_and_leaves_the_others(images: torch.Tensor) -> None:
    flipped = augment(images, Augmentation(flip=True), 3)
    kinds = set()
    for before, after in zip(images, flipped, strict=True):
        kept = torch.equal(after, before)
        assert kept or torch.equal(after, before.flip(1))
        kinds.add(kept)
    assert kinds == {True, False}


def test_a_crop_keeps_at_least_its_share_of_the_area() -> None:
    """Each pixel says where it was: rows in the first channel, columns in the second."""
    ramp = torch.arange(100, dtype=torch.uint8)
    image = torch.stack([ramp[:, None].expand(-1, 100), ramp.expand(100, -1), ramp.expand(100, -1)])
    images = image.permute(1, 2, 0).expand(64, -1, -1, -1)
    cropped = augment(images, Augmentation(flip=False, smallest_crop=0.6), 1).int()
    tall = (cropped[:, -1, 50, 0] - cropped[:, 0, 50, 0]) / 100
    wide = (cropped[:, 50, -1, 1] - cropped[:, 50, 0, 1]) / 100
    assert ((tall * wide) > 0.55).all()
    assert 0.55 < (tall * wide).min() < 0.7
    assert (tall / wide).min() > 0.88
    assert (tall / wide).max() < 1.14


def test_saturation_leaves_grey_alone(images: torch.Tensor) -> None:
    grey = images[..., :1].expand(-1, -1, -1, 3)
    changed = augment(grey, Augmentation(flip=False, saturation=0.9), 1)
    assert (changed.int() - grey.int()).abs().max() <= 1


def test_erasing_paints_one_grey_rectangle_over_some_images() -> None:
    white = torch.full((64, 40, 40, 3), 255, dtype=torch.uint8)
    erased = augment(white, Augmentation(flip=False, erase=0.5), 1)
    painted = (erased == 127).all(3)  # (64, 40, 40)
    assert torch.equal(painted, (erased != 255).any(3))
    shares = painted.double().mean((1, 2))
    chosen = shares > 0
    assert 16 < chosen.sum() < 48
    assert (shares[chosen] < 0.25).all()
    for where in painted[chosen]:
        rows, columns = where.any(1).sum(), where.any(0).sum()
        assert rows * columns == where.sum()
