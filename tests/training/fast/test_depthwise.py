"""The replaced convolution gives what PyTorch's gives, forwards and backwards."""

import copy

import pytest
import torch
from torch import nn

from training.fast.depthwise import Depthwise, replace_depthwise


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("channels", "height", "width"), [(4, 8, 8), (16, 7, 10), (3, 2, 1), (40, 37, 5)]
)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 1), (3, 2)])
def test_it_is_the_convolution(
    dtype: torch.dtype, channels: int, height: int, width: int, stride: tuple[int, int]
) -> None:
    """Against PyTorch's, which computes with the same numbers in float64."""
    torch.manual_seed(0)
    fast = nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
    ).to(dtype)
    plain = copy.deepcopy(fast).double()
    replace_depthwise(fast)
    assert type(fast[0]) is Depthwise
    images = torch.randn(2, channels, height, width).to(dtype)
    gradient = torch.randn_like(plain(images.double()).float()).to(dtype)
    results = []
    for module in (plain, fast):
        weight = next(module.parameters())
        seen = images.to(weight.dtype, memory_format=torch.channels_last).requires_grad_()
        answer = module(seen)
        answer.backward(gradient.to(weight.dtype))
        assert seen.grad is not None
        assert weight.grad is not None
        results.append([tensor.float() for tensor in (answer, seen.grad, weight.grad)])
    for expected, found in zip(*results, strict=True):
        if dtype == torch.float32:
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        else:
            torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(4, 4, 3, 2, padding=1, bias=False),
        nn.Conv2d(4, 8, 3, 2, padding=1, groups=4, bias=False),
        nn.Conv2d(4, 4, 5, 2, padding=2, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, 2, padding=0, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, 2, padding=1, groups=4, bias=True),
    ],
)
def test_other_convolutions_are_left_alone(other: nn.Conv2d) -> None:
    network = nn.Sequential(other)
    replace_depthwise(network)
    assert type(network[0]) is nn.Conv2d
