"""What is done for speed changes nothing but the speed."""

import copy

import pytest
import torch
from torch import nn

from services.embedder.dcpl.network import mobilenet_v1
from training.fast.batch_norm_relu6 import BatchNormReLU6
from training.fast.compiler import compiled
from training.fast.depthwise import Depthwise
from training.fast.on_cpu import speed_up_on_cpu


def test_the_papers_tower_learns_the_same() -> None:
    torch.manual_seed(0)
    plain = mobilenet_v1().to(memory_format=torch.channels_last)
    fast = copy.deepcopy(plain)
    speed_up_on_cpu(fast, bfloat16=False)
    kinds = [type(module) for module in fast.modules()]
    assert (kinds.count(BatchNormReLU6), kinds.count(Depthwise)) == (27, 13)
    assert list(fast.state_dict()) == list(plain.state_dict())
    images = torch.randn(8, 3, 64, 32).contiguous(memory_format=torch.channels_last)
    vectors = []
    for tower in (plain, fast):
        vectors.append(tower(images))
        vectors[-1].square().mean().backward()
    torch.testing.assert_close(vectors[1], vectors[0], rtol=1e-3, atol=1e-3)
    for (name, expected), found in zip(plain.named_parameters(), fast.parameters(), strict=True):
        assert expected.grad is not None
        assert found.grad is not None
        # The signs of tiny activations differ, and what follows from them through 27 layers.
        likeness = nn.functional.cosine_similarity(expected.grad.flatten(), found.grad.flatten(), 0)
        assert likeness > 0.99, name
    for (name, before), after in zip(plain.named_buffers(), fast.buffers(), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4, msg=name)


def test_what_it_does_not_know_is_left_alone() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2, groups=8),
        nn.ReLU6(),
    )
    kinds = [type(module) for module in network]
    speed_up_on_cpu(network, bfloat16=False)
    assert [type(module) for module in network] == kinds


def test_without_a_compiler_the_network_stays_as_it_is_and_a_warning_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", "/nowhere/cc")
    monkeypatch.setattr("training.fast.kernels.compiled", compiled.__wrapped__)
    network = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU6())
    modules = [*network.modules()]
    speed_up_on_cpu(network, bfloat16=False)
    assert [*network.modules()] == modules
    assert "training will be slower, as nothing can be compiled here" in caplog.text
    assert "No such file or directory: '/nowhere/cc'" in caplog.text
