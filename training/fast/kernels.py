"""kernels.c called with PyTorch's tensors."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from training.fast.compiler import compiled

DEFINITIONS = {torch.float32: (), torch.bfloat16: ("-DBFLOAT16",)}


def kernels_for(dtype: torch.dtype) -> ctypes.CDLL:
    """The kernels for images of that type. Raises CannotCompile."""
    return compiled(*DEFINITIONS[dtype])


def channel_sums(images: Tensor) -> tuple[Tensor, Tensor]:
    """images: (batch, height, width, channels). Of each channel the sum and the sum of squares,
    (channels,) float64 each.
    """
    totals = _totals(2, images)
    _call("sums", images, *_shape(images), len(totals), totals)
    first, second = totals.sum(dim=0)
    return first, second


def scaled(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """ReLU6 of images x scale + shift; scale, shift: (channels,) float32."""
    output = torch.empty_like(images)
    _call("scaled", images, *_shape(images), torch.get_num_threads(), scale, shift, output)
    return output


def gradient_sums(
    images: Tensor, gradient: Tensor, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """With g the gradient where that ReLU6 lets it through: of each channel the sum of g and of
    g x images, (channels,) float64 each.
    """
    totals = _totals(2, images)
    _call("gradient_sums", images, *_shape(images), len(totals), scale, shift, gradient, totals)
    first, second = totals.sum(dim=0)
    return first, second


def scaled_gradient(
    images: Tensor, gradient: Tensor, scale: Tensor, shift: Tensor, factor: Tensor, offset: Tensor
) -> Tensor:
    """g x scale + images x factor + offset, with g as above."""
    output = torch.empty_like(images)
    threads = torch.get_num_threads()
    vectors = (scale, shift, gradient, factor, offset, output)
    _call("scaled_gradient", images, *_shape(images), threads, *vectors)
    return output


def depthwise_to_weight(images: Tensor, gradient: Tensor, stride: tuple[int, int]) -> Tensor:
    """Of a depthwise 3x3 convolution with padding 1: what its weight, (channels, 1, 3, 3), changes;
    float32. gradient: of its output, (batch, output height, output width, channels).
    """
    totals = _totals(9, images)
    sizes = (*images.shape, *stride)
    _call(
        "depthwise_to_weight", images, *sizes, gradient, *gradient.shape[1:3], len(totals), totals
    )
    return totals.sum(dim=0).float().T.reshape(-1, 1, 3, 3)


def depthwise_to_images(
    gradient: Tensor, weight: Tensor, shape: torch.Size, stride: tuple[int, int]
) -> Tensor:
    """The same, to images of that shape."""
    output = gradient.new_empty(shape)
    taps = weight.float().view(-1, 9).T.contiguous()
    sizes = (*shape, *stride)
    threads = torch.get_num_threads()
    _call("depthwise_to_images", gradient, *sizes, taps, *gradient.shape[1:3], threads, output)
    return output


def _totals(rows: int, images: Tensor) -> Tensor:
    """A row for each thread."""
    return torch.zeros(torch.get_num_threads(), rows, images.shape[3], dtype=torch.float64)


def _shape(images: Tensor) -> tuple[int, int]:
    return images.numel() // images.shape[3], images.shape[3]


def _call(name: str, images: Tensor, *arguments: Any) -> None:
    """Tensors by their address, numbers as long; the first decides for which type."""
    given = [images, *arguments]
    assert all(part.is_contiguous() for part in given if isinstance(part, Tensor))
    converted = (
        ctypes.c_void_p(part.data_ptr()) if isinstance(part, Tensor) else ctypes.c_long(part)
        for part in given
    )
    getattr(kernels_for(images.dtype), name)(*converted)
