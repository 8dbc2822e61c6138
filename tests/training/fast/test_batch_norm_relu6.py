"""Batch norm and ReLU6 in one give what PyTorch's two modules give, forwards and backwards."""

import copy

import pytest
import torch
from torch import Tensor, nn

from training.fast.batch_norm_relu6 import BatchNormReLU6, fuse_batch_norms

SHAPES = [(5, 24, 7, 9), (3, 40, 1, 2), (2, 1, 3, 5), (16, 64, 16, 8)]


def pair(channels: int) -> tuple[nn.Sequential, nn.Sequential]:
    """The two modules, with weights that let ReLU6 cut on both sides; and the same fused."""
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, 1, 4)
    nn.init.uniform_(norm.bias, -1, 4)
    plain = nn.Sequential(norm, nn.ReLU6())
    fused = copy.deepcopy(plain)
    fuse_batch_norms(fused)
    assert [type(module) for module in fused] == [BatchNormReLU6, nn.Identity]
    return plain, fused


def learn(network: nn.Sequential, images: Tensor) -> list[Tensor]:
    """What comes out, the gradients, and the running statistics."""
    seen = images.clone().requires_grad_()
    answer = network(seen)
    factors = torch.arange(answer.numel()).sin().bfloat16().float()  # the same to both types
    total = (answer.float() * factors.view_as(answer)).sum()
    gradients = torch.autograd.grad(total, [seen, *network.parameters()])
    return [tensor.float() for tensor in (answer, *gradients, *network.buffers())]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels_last", [True, False])
def test_in_float32_it_is_the_same(shape: tuple[int, ...], channels_last: bool) -> None:
    plain, fused = pair(shape[1])
    images = torch.randn(shape) * 3 + 10
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    for expected, found in zip(learn(plain, images), learn(fused, images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_images_are_computed_with_in_float32(shape: tuple[int, ...]) -> None:
    """Only what comes out is rounded."""
    plain, fused = pair(shape[1])
    images = (torch.randn(shape) * 3 + 10).bfloat16().contiguous(memory_format=torch.channels_last)
    assert fused(images).dtype == torch.bfloat16
    plain(images.float())
    for expected, found in zip(learn(plain, images.float()), learn(fused, images), strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


def test_in_eval_mode_the_running_statistics_count() -> None:
    plain, fused = pair(8)
    images = torch.randn(4, 8, 5, 5)
    for network in (plain, fused):
        network(images)
        network.eval()
    torch.testing.assert_close(fused(images * 2), plain(images * 2))


def test_only_a_batch_norm_before_a_relu6_is_fused() -> None:
    network = nn.Sequential(
        nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.ReLU6()
    )
    kinds = [type(module) for module in network]
    fuse_batch_norms(network)
    assert [type(module) for module in network] == kinds


def test_one_value_a_channel_is_refused_as_pytorch_refuses_it() -> None:
    for network in pair(3):
        with pytest.raises(ValueError, match="value"):
            network(torch.ones(1, 3, 1, 1))
