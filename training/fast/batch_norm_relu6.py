"""Batch norm and ReLU6 as one operation: on a processor both do little but wait for memory.

Each kernel reads the images once. As PyTorch's own batch norm does, it computes in float32 and
keeps the type of the images.
"""

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.fast.kernels import (
    channel_sums,
    gradient_sums,
    scaled,
    scaled_gradient,
)


def fuse_batch_norms(network: nn.Module) -> None:
    """Put a BatchNormReLU6 in the place of each BatchNorm2d that a ReLU6 follows in an
    nn.Sequential; the ReLU6 becomes an identity.

    Weights and state dict stay what they are.
    """
    for sequence in network.modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        for index, (norm, activation) in enumerate(itertools.pairwise(sequence)):
            if type(norm) is nn.BatchNorm2d and type(activation) is nn.ReLU6:
                sequence[index] = BatchNormReLU6(norm)
                sequence[index + 1] = nn.Identity()


class BatchNormReLU6(nn.Module):
    """ReLU6 of a batch norm, with its affine weights, running statistics and fixed momentum."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.training = norm.training
        assert norm.momentum is not None
        self.epsilon, self.momentum = norm.eps, norm.momentum
        self.weight, self.bias = norm.weight, norm.bias  # (channels,)
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width), best channels-last, to the same shape and type.

        Raises ValueError where a channel has a single pixel: that has no variance to learn with.
        """
        if not self.training:
            return functional.relu6(
                functional.batch_norm(
                    images,
                    self.running_mean,
                    self.running_var,
                    self.weight,
                    self.bias,
                    eps=self.epsilon,
                )
            )
        count = images.numel() // len(self.weight)
        if count < 2:
            raise ValueError(
                f"batch norm over {tuple(images.shape)} has one value a channel: nothing to learn; "
                f"choose a larger --batch-size or --image-size"
            )
        output, mean, variance = _BatchNormReLU6.apply(images, self.weight, self.bias, self.epsilon)
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
        pixels = _channels_last(images)
        count = pixels.numel() // pixels.shape[3]
        mean, squares = (total / count for total in channel_sums(pixels))
        variance = (squares - mean.square()).clamp_min_(0)
        inverse = (variance + epsilon).rsqrt()
        mean, variance, inverse = mean.float(), variance.float(), inverse.float()
        scale = weight * inverse
        shift = bias - mean * scale
        context.save_for_backward(pixels, mean, inverse, scale, shift)
        context.mark_non_differentiable(mean, variance)
        return scaled(pixels, scale, shift).permute(0, 3, 1, 2), mean, variance

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        pixels, mean, inverse, scale, shift = context.saved_tensors
        gradient = _channels_last(gradients[0])
        count = pixels.numel() // pixels.shape[3]
        to_bias, products = (
            total.float() for total in gradient_sums(pixels, gradient, scale, shift)
        )
        to_weight = (products - mean * to_bias) * inverse
        factor = -scale * inverse * to_weight / count
        offset = -scale * to_bias / count - factor * mean
        to_pixels = scaled_gradient(pixels, gradient, scale, shift, factor, offset)
        return to_pixels.permute(0, 3, 1, 2), to_weight, to_bias, None


def _channels_last(images: Tensor) -> Tensor:
    """(batch, channels, height, width) -> (batch, height, width, channels), contiguous."""
    return images.permute(0, 2, 3, 1).contiguous()
