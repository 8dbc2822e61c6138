"""Augmented images stay images, each is changed on its own, and the generator decides how."""

import pytest
import torch

from services.embedder.training.augment import augment, normalise
from services.embedder.training.recipe import RECOMMENDED, Augmentation

NOTHING = Augmentation(flip=False)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(8, 3, 16, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_bytes_become_numbers_from_minus_one_to_one_channels_last() -> None:
    pixels = torch.tensor([0, 255, 0, 255, 0, 255], dtype=torch.uint8).view(1, 1, 2, 3)
    numbers = normalise(pixels)
    assert numbers.shape == (1, 3, 1, 2)
    assert numbers[0, :, 0, 0].tolist() == [-1, 1, -1]
    assert normalise(torch.zeros(2, 4, 4, 3, dtype=torch.uint8)).is_contiguous(
        memory_format=torch.channels_last
    )


def test_nothing_wanted_changes_nothing(images: torch.Tensor) -> None:
    torch.testing.assert_close(augment(images, NOTHING, seeded(1)), images, atol=1e-5, rtol=0)


def test_the_generator_decides(images: torch.Tensor) -> None:
    wanted = RECOMMENDED.augmentation
    assert torch.equal(augment(images, wanted, seeded(1)), augment(images, wanted, seeded(1)))
    assert not torch.equal(augment(images, wanted, seeded(1)), augment(images, wanted, seeded(2)))


def test_shape_and_range_are_kept_and_images_differ(images: torch.Tensor) -> None:
    same = images[:1].expand(8, -1, -1, -1)
    changed = augment(same, RECOMMENDED.augmentation, seeded(1))
    assert changed.shape == same.shape
    assert changed.abs().max() <= 1
    assert len({image.sum().item() for image in changed}) == 8


def test_flip_mirrors_some_images_and_leaves_the_others(images: torch.Tensor) -> None:
    flipped = augment(images, Augmentation(flip=True), seeded(3))
    kinds = set()
    for before, after in zip(images, flipped, strict=True):
        kept = torch.allclose(after, before, atol=1e-5)
        assert kept or torch.allclose(after, before.flip(2), atol=1e-5)
        kinds.add(kept)
    assert kinds == {True, False}


def test_a_shift_moves_by_its_share_of_the_size_at_most() -> None:
    image = torch.full((64, 1, 20, 20), -1.0)
    image[:, :, 10, 10] = 1
    moved = augment(image.expand(-1, 3, -1, -1), Augmentation(flip=False, shift=0.2), seeded(1))
    peaks = moved[:, 0].flatten(1).argmax(1)
    distance = torch.stack([peaks // 20 - 10, peaks % 20 - 10]).abs()
    assert 2 <= distance.max() <= 4


def test_saturation_leaves_grey_alone(images: torch.Tensor) -> None:
    grey = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    changed = augment(grey, Augmentation(flip=False, saturation=0.9), seeded(1))
    torch.testing.assert_close(changed, grey, atol=1e-5, rtol=0)


def test_erasing_paints_one_grey_rectangle_over_some_images() -> None:
    white = torch.ones(64, 3, 40, 40)
    erased = augment(white, Augmentation(flip=False, erase=0.5), seeded(1))
    painted = (erased < 0.999).all(1)  # (64, 40, 40)
    shares = painted.double().mean((1, 2))
    chosen = shares > 0
    assert 16 < chosen.sum() < 48
    assert (shares[chosen] < 0.25).all()
    for image, where in zip(erased[chosen], painted[chosen], strict=True):
        assert len(image[:, where].unique()) == 1
        rows, columns = where.any(1).sum(), where.any(0).sum()
        assert rows * columns == where.sum()
