"""The replaced convolution gives what PyTorch's gives, forwards and backwards."""

import copy

import pytest
import torch
from torch import nn

from services.embedder.training.depthwise import Depthwise, replace_depthwise


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10), (2, 1)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 1), (3, 2)])
def test_it_is_the_convolution(height: int, width: int, stride: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(4, 4, 3, stride, padding=1, groups=4, bias=False))
    fast = copy.deepcopy(plain)
    replace_depthwise(fast)
    assert type(fast[0]) is Depthwise
    images = torch.randn(2, 4, height, width).contiguous(memory_format=torch.channels_last)
    results = []
    for module in (plain, fast):
        seen = images.clone().requires_grad_()
        answer = module(seen)
        answer.sin().sum().backward()
        results.append([answer, seen.grad, module[0].weight.grad])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


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
