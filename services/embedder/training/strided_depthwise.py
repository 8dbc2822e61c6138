"""Strided depthwise convolutions for a processor, whose oneDNN goes back through them slowly."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def replace_strided_depthwise(network: nn.Module) -> None:
    """Give each strided depthwise 3x3 convolution of the network a faster way back; in place.

    Weights and state dict stay what they are.
    """
    for module in network.modules():
        if (
            type(module) is nn.Conv2d
            and module.groups == module.in_channels == module.out_channels > 1
            and module.kernel_size == (3, 3)
            and module.padding == (1, 1)
            and module.dilation == (1, 1)
            and module.stride != (1, 1)
            and module.bias is None
        ):
            module.__class__ = StridedDepthwise


class StridedDepthwise(nn.Conv2d):
    """3x3, one channel each, padding 1."""

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width), best channels-last."""
        thinned: Tensor = _StridedDepthwise.apply(images, self.weight, self.stride)
        return thinned


class _StridedDepthwise(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, images: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
        narrow = weight.to(images.dtype)
        context.stride = stride
        context.save_for_backward(images, narrow)
        return functional.conv2d(images, narrow, None, stride, 1, groups=len(weight))

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (images, weight), (gradient,), (down, right) = (
            context.saved_tensors,
            gradients,
            context.stride,
        )
        spread = torch.zeros_like(images)
        spread[:, :, ::down, ::right] = gradient
        # At stride 1 the way back is a convolution like any other, with its filter turned.
        to_images = functional.conv2d(spread, weight.flip(2, 3), None, 1, 1, groups=len(weight))
        batch, channels, height, width = images.shape
        padded = images.new_zeros(batch, height + 2, width + 2, channels)
        padded[:, 1:-1, 1:-1] = images.permute(0, 2, 3, 1)
        taps = _correlations(padded, gradient.permute(0, 2, 3, 1), down, right)
        to_weight = torch.stack([tap.sum(dim=(0, 1)) for tap in taps], dim=1)
        return to_images, to_weight.view(channels, 1, 3, 3), None


@torch.compile(dynamic=True)
def _correlations(padded: Tensor, gradient: Tensor, down: int, right: int) -> list[Tensor]:
    """Of each row of each image and each of the filter's nine taps, what the tap's weight changes.

    padded: (batch, height + 2, width + 2, channels), gradient: (batch, thinned height, thinned
    width, channels). Nine of (batch, thinned height, channels) float32.
    """
    height, width = gradient.shape[1:3]
    change = gradient.float()
    return [
        (
            change
            * padded[
                :,
                top : top + down * (height - 1) + 1 : down,
                left : left + right * (width - 1) + 1 : right,
            ].float()
        ).sum(dim=2)
        for top in range(3)
        for left in range(3)
    ]
