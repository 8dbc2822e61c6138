"""Depthwise convolutions for a processor, whose oneDNN goes back through them slowly."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.fast.kernels import depthwise_to_images, depthwise_to_weight


def replace_depthwise(network: nn.Module) -> None:
    """Give each depthwise 3x3 convolution of the network a faster way back; in place.

    Weights and state dict stay what they are.
    """
    for module in network.modules():
        if (
            type(module) is nn.Conv2d
            and module.groups == module.in_channels == module.out_channels > 1
            and module.kernel_size == (3, 3)
            and module.padding == (1, 1)
            and module.dilation == (1, 1)
            and module.bias is None
        ):
            module.__class__ = Depthwise


class Depthwise(nn.Conv2d):
    """3x3, one channel each, padding 1."""

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width), best channels-last."""
        output: Tensor = _Depthwise.apply(images, self.weight, self.stride)
        return output


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, images: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
        narrow = weight.to(images.dtype)
        context.stride = stride
        context.save_for_backward(images, narrow)
        return functional.conv2d(images, narrow, None, stride, 1, groups=len(weight))

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (images, weight), stride = context.saved_tensors, context.stride
        pixels = images.permute(0, 2, 3, 1).contiguous()
        gradient = gradients[0].permute(0, 2, 3, 1).contiguous()
        if stride == (1, 1):
            # The way back is a convolution like any other, with its filter turned.
            to_images = functional.conv2d(
                gradients[0], weight.flip(2, 3), None, 1, 1, groups=len(weight)
            )
        else:
            back = depthwise_to_images(gradient, weight, pixels.shape, stride)
            to_images = back.permute(0, 3, 1, 2)
        return to_images, depthwise_to_weight(pixels, gradient, stride), None
