"""Batch norm and ReLU6 as one operation for a processor, where both do nothing but wait for memory.

PyTorch's compiler makes the loops; each reads the images once. As PyTorch's own batch norm does,
they compute in float32 and keep the type of the images.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

ROWS = 128
"""Pixels whose sum one loop builds before the next; their channels stay in the first cache."""


def fuse_batch_norms(network: nn.Module) -> None:
    """Turn each BatchNorm2d that a ReLU6 follows in an nn.Sequential into both; in place.

    Weights and state dict stay what they are.
    """
    for sequence in network.modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        for index in range(len(sequence) - 1):
            norm, activation = sequence[index], sequence[index + 1]
            if type(norm) is nn.BatchNorm2d and type(activation) is nn.ReLU6:
                norm.__class__ = BatchNormReLU6
                sequence[index + 1] = nn.Identity()


class BatchNormReLU6(nn.BatchNorm2d):
    """ReLU6 of the batch norm; with affine weights, running statistics and a fixed momentum."""

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width), best channels-last, to the same shape and type.

        Raises ValueError where a channel has a single pixel: that has no variance to learn with.
        """
        if not self.training:
            return functional.relu6(super().forward(images))
        count = images.numel() // self.num_features
        if count < 2:
            raise ValueError(
                f"batch norm over {tuple(images.shape)} has one value a channel: nothing to learn; "
                f"choose a larger --batch-size or --image-size"
            )
        output, mean, variance = _BatchNormReLU6.apply(images, self.weight, self.bias, self.eps)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        result: Tensor = output
        return result


class _BatchNormReLU6(torch.autograd.Function):
    """Ioffe & Szegedy (2015), algorithm 1 and its gradients in section 3, then min(max(y, 0), 6).

    With scale and shift of each channel: y = x scale + shift. Let g be the gradient where
    0 < y < 6, n the pixels of a channel: dx = scale (g - mean(g) - normalised(x) dweight / n).
    """

    @staticmethod
    def forward(
        context: Any, images: Tensor, weight: Tensor, bias: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = _rows(images)
        sums, squares = (part.double().sum(dim=0) for part in _sums(rows))
        mean = sums / (len(rows) * rows.shape[1])
        variance = (squares / (len(rows) * rows.shape[1]) - mean.square()).clamp_min_(0)
        inverse = (variance + epsilon).rsqrt()
        mean, variance, inverse = mean.float(), variance.float(), inverse.float()
        scale = weight * inverse
        shift = bias - mean * scale
        context.save_for_backward(images, mean, inverse, scale, shift)
        context.mark_non_differentiable(mean, variance)
        return _as_images(_scaled(rows, scale, shift), images.shape), mean, variance

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        images, mean, inverse, scale, shift = context.saved_tensors
        rows, gradient = _rows(images), _rows(gradients[0])
        count = len(rows) * rows.shape[1]
        to_bias, products = (
            part.sum(dim=0) for part in _gradient_sums(rows, gradient, scale, shift)
        )
        to_weight = (products - mean * to_bias) * inverse
        factor = -scale * inverse * to_weight / count
        offset = -scale * to_bias / count - factor * mean
        to_rows = _gradient(rows, gradient, scale, shift, factor, offset)
        return _as_images(to_rows, images.shape), to_weight, to_bias, None


def _rows(images: Tensor) -> Tensor:
    """(batch, channels, height, width) -> (groups, pixels, channels), a view if channels-last."""
    pixels = images.detach().permute(0, 2, 3, 1)
    count = pixels.numel() // pixels.shape[3]
    return pixels.reshape(-1, math.gcd(count, ROWS), pixels.shape[3])


def _as_images(rows: Tensor, shape: torch.Size) -> Tensor:
    batch, channels, height, width = shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


@torch.compile(dynamic=True)
def _sums(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of each group and channel: the sum and the sum of squares."""
    values = rows.float()
    return values.sum(dim=1), values.square().sum(dim=1)


@torch.compile(dynamic=True)
def _scaled(rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return (rows.float() * scale + shift).clamp(0, 6).to(rows.dtype)


@torch.compile(dynamic=True)
def _gradient_sums(
    rows: Tensor, gradient: Tensor, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Of each group and channel: the sum of g, and of g x."""
    values = rows.float()
    passed = _passed(values, gradient, scale, shift)
    return passed.sum(dim=1), (passed * values).sum(dim=1)


@torch.compile(dynamic=True)
def _gradient(
    rows: Tensor, gradient: Tensor, scale: Tensor, shift: Tensor, factor: Tensor, offset: Tensor
) -> Tensor:
    """g scale + x factor + offset."""
    values = rows.float()
    passed = _passed(values, gradient, scale, shift)
    return (passed * scale + values * factor + offset).to(rows.dtype)


def _passed(values: Tensor, gradient: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """g: the gradient where ReLU6 lets it through."""
    scaled = values * scale + shift
    return torch.where((scaled > 0) & (scaled < 6), gradient.float(), 0.0)
