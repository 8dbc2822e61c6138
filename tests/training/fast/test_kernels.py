"""The compiled loops: rounding, what is no number, and threads."""

import pytest
import torch
from torch import Tensor

from training.fast.kernels import (
    channel_sums,
    depthwise_to_images,
    depthwise_to_weight,
    gradient_sums,
    loops,
    scaled,
    scaled_gradient,
)

DTYPES = [torch.float32, torch.bfloat16]
CHANNELS = 24
ONE = torch.ones(CHANNELS)
ZERO = torch.zeros(CHANNELS)


def images_of(dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(5, 7, 6, CHANNELS, generator=generator).mul(6).to(dtype)


def every_loop(images: Tensor) -> list[Tensor]:
    gradient = images.flip(0).contiguous() - 3
    scale, shift = torch.linspace(0.5, 1.5, CHANNELS), torch.linspace(-1, 1, CHANNELS)
    thinned = gradient[:, ::2, ::2].contiguous()
    weight = torch.linspace(-1, 1, 9 * CHANNELS).to(images.dtype).view(CHANNELS, 1, 3, 3)
    return [
        *channel_sums(images),
        scaled(images, scale, shift),
        *gradient_sums(images, gradient, scale, shift),
        scaled_gradient(images, gradient, scale, shift, shift, scale),
        depthwise_to_weight(images, thinned, (2, 2)),
        depthwise_to_images(thinned, weight, images.shape, (2, 2)),
    ]


def with_threads(threads: int, images: Tensor) -> list[Tensor]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return every_loop(images)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_share_the_work(dtype: torch.dtype) -> None:
    images = images_of(dtype)
    for alone, shared in zip(with_threads(1, images), with_threads(3, images), strict=True):
        torch.testing.assert_close(shared, alone)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_threads_find_the_same_to_the_last_bit(dtype: torch.dtype) -> None:
    images = images_of(dtype)
    for first, second in zip(with_threads(3, images), with_threads(3, images), strict=True):
        assert torch.equal(first, second)


def test_bfloat16_is_rounded_as_pytorch_rounds_it() -> None:
    images, scale = images_of(torch.bfloat16), torch.linspace(0.01, 1, CHANNELS)
    expected = (images.float() * scale).bfloat16()
    assert torch.equal(scaled(images, scale, ZERO), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_number_stays_none(dtype: torch.dtype) -> None:
    """Or a run that diverges would not be stopped."""
    images = images_of(dtype)
    images[0, 0, 0, 0] = float("nan")
    assert scaled(images, ONE, ZERO)[0, 0, 0, 0].isnan()
    assert channel_sums(images)[0][0].isnan()
    assert scaled(images, ONE, ZERO).isnan().sum() == 1


@pytest.mark.parametrize("compiler", ["env LANG=C cc", ""])
def test_the_compiler_may_be_a_command_with_arguments(
    monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    monkeypatch.setenv("CC", compiler)
    assert loops.__wrapped__(torch.float32).sums
