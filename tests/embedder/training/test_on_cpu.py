"""What is done for speed gives what the plain network gives, forwards and backwards."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from services.embedder.training.on_cpu import speed_up_on_cpu


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10)])
@pytest.mark.parametrize("stride", [(2, 2), (2, 1), (3, 2)])
def test_a_thinned_convolution_is_the_strided_one(
    height: int, width: int, stride: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 4, 3, stride, padding=1, groups=4, dtype=torch.float64)
    fast = nn.Sequential(nn.Conv2d(4, 4, 3, stride, padding=1, groups=4, dtype=torch.float64))
    fast[0].load_state_dict(plain.state_dict())
    speed_up_on_cpu(fast)
    assert type(fast[0]) is not nn.Conv2d
    results = []
    for module in (plain, fast):
        images = torch.arange(2 * 4 * height * width, dtype=torch.float64).sin()
        images = images.reshape(2, 4, height, width).requires_grad_()
        answer = module(images)
        answer.square().sum().backward()
        results.append([answer, images.grad, *(weight.grad for weight in module.parameters())])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_other_convolutions_are_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU())
    speed_up_on_cpu(network)
    assert [type(module) for module in network] == [nn.Conv2d, nn.Conv2d, nn.ReLU]


def test_freed_memory_is_used_again() -> None:
    """In a process of its own, as what malloc is told holds until a process ends."""
    program = """
import resource, torch
from services.embedder.training.on_cpu import keep_memory
keep_memory()
for _ in range(20):  # small blocks settle between the large ones
    torch.ones(20_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(20_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert int(found.stdout) < 50_000  # of the 195,310 pages that they need
