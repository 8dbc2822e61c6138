"""The compiled kernels: rounding, NaN, and threads."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from training.fast import kernels

DTYPES = [torch.float32, torch.bfloat16]
CHANNELS = 24
ONE = torch.ones(CHANNELS)
ZERO = torch.zeros(CHANNELS)
SCALE, SHIFT = torch.linspace(0.5, 1.5, CHANNELS), torch.linspace(-1, 1, CHANNELS)


def images_of(dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(9, 17, 6, CHANNELS, generator=generator).mul(6).to(dtype)


def gradient_of(images: Tensor) -> Tensor:
    return images.flip(0).contiguous() - 3


def halved(images: Tensor) -> Tensor:
    """Of the size that a stride of 2 leaves."""
    return gradient_of(images)[:, ::2, ::2].contiguous()


def weight_of(images: Tensor) -> Tensor:
    return torch.linspace(-1, 1, 9 * CHANNELS).to(images.dtype).view(CHANNELS, 1, 3, 3)


Result = Tensor | tuple[Tensor, Tensor]
KERNELS: dict[str, Callable[[Tensor], Callable[[], Result]]] = {
    "channel_sums": lambda images: partial(kernels.channel_sums, images),
    "scaled": lambda images: partial(kernels.scaled, images, SCALE, SHIFT),
    "gradient_sums": lambda images: partial(
        kernels.gradient_sums, images, gradient_of(images), SCALE, SHIFT
    ),
    "scaled_gradient": lambda images: partial(
        kernels.scaled_gradient, images, gradient_of(images), SCALE, SHIFT, SHIFT, SCALE
    ),
    "depthwise_to_weight": lambda images: partial(
        kernels.depthwise_to_weight, images, halved(images), (2, 2)
    ),
    "depthwise_to_images": lambda images: partial(
        kernels.depthwise_to_images, halved(images), weight_of(images), images.shape, (2, 2)
    ),
}
"""Each with its arguments for given images."""


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def processor_time() -> dict[str, int]:
    """Nanoseconds that each thread of this process has computed."""
    times = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            times[task.name] = int((task / "schedstat").read_text().split()[0])
    return times


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_threads_change_nothing(dtype: torch.dtype, kernel: str) -> None:
    compute = KERNELS[kernel](images_of(dtype))
    with threads(1):
        alone = compute()
    with threads(3):
        torch.testing.assert_close(compute(), alone)


@pytest.mark.parametrize("kernel", KERNELS)
def test_threads_share_the_work(kernel: str) -> None:
    """By the time that each has computed, which no load on the machine changes."""
    compute = KERNELS[kernel](torch.rand(24, 32, 16, CHANNELS))
    with threads(3):
        before, enough = processor_time(), time.process_time() + 0.2
        while time.process_time() < enough:  # reading each thread's own takes longer than computing
            compute()
        spent = sorted(now - before.get(task, 0) for task, now in processor_time().items())
    assert spent[-2] > 0.1 * sum(spent)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_as_many_threads_find_the_same_to_the_last_bit(dtype: torch.dtype, kernel: str) -> None:
    compute = KERNELS[kernel](images_of(dtype))
    with threads(3):
        first, second = compute(), compute()
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_bfloat16_is_rounded_as_pytorch_rounds_it() -> None:
    images, scale = images_of(torch.bfloat16), torch.linspace(0.01, 1, CHANNELS)
    expected = (images.float() * scale).bfloat16()
    assert torch.equal(kernels.scaled(images, scale, ZERO), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_stays_nan(dtype: torch.dtype) -> None:
    """Or a run that diverges would not be stopped."""
    images = images_of(dtype)
    images[0, 0, 0, 0] = float("nan")
    assert kernels.scaled(images, ONE, ZERO)[0, 0, 0, 0].isnan()
    assert kernels.channel_sums(images)[0][0].isnan()
    assert kernels.scaled(images, ONE, ZERO).isnan().sum() == 1
