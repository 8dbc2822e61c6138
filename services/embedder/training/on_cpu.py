"""What makes bfloat16 training fast on a processor; but for rounding it learns the same."""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# Of mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def speed_up_on_cpu(network: nn.Module) -> None:
    """Compute strided depthwise convolutions at stride 1, and keep freed memory in the process.

    oneDNN has a fast backward for depthwise convolutions at stride 1 only. Weights and state
    dict stay what they are.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1 and module.stride != (1, 1):
            module.__class__ = ThinnedConvolution
    keep_memory()


class ThinnedConvolution(nn.Conv2d):
    """A strided convolution as one that steps by 1 and then drops what the stride skips."""

    def forward(self, images: Tensor) -> Tensor:
        every = functional.conv2d(
            images, self.weight, self.bias, 1, self.padding, self.dilation, self.groups
        )
        thinned: Tensor = EveryNth.apply(every, *self.stride)
        return thinned


class EveryNth(torch.autograd.Function):
    """images[:, :, ::down, ::right], channels-last also in its gradient, unlike a slice.

    (batch, channels, height, width) -> (batch, channels, ceil(height / down), ceil(width / right))
    """

    @staticmethod
    def forward(context: Any, images: Tensor, down: int, right: int) -> Tensor:
        context.steps, context.shape = (down, right), images.shape
        kept = images[:, :, ::down, ::right]
        return kept.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (down, right), (kept,) = context.steps, gradients
        whole = torch.empty(
            context.shape, dtype=kept.dtype, memory_format=torch.channels_last
        ).zero_()
        whole[:, :, ::down, ::right] = kept
        return whole, None, None


def keep_memory() -> None:
    """Tell glibc to reuse freed memory instead of returning it to the system.

    A step's activations are as large as those of the last one; to get them anew, page by page,
    costs a tenth of the step. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
