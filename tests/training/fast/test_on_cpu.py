"""What is done for speed changes nothing but the speed, and can do without a compiler."""

import copy
import os
import subprocess
import sys
from typing import Literal

import pytest
import torch
from torch import nn

from services.embedder.dcpl.network import Architecture, CaptionTower, mobilenet_v1
from training.fast.batch_norm_relu6 import BatchNormReLU6
from training.fast.depthwise import Depthwise
from training.fast.length_bucketing import CaptionTowerByLength
from training.fast.on_cpu import speed_up_on_cpu


def test_the_papers_tower_learns_the_same() -> None:
    torch.manual_seed(0)
    plain = mobilenet_v1().to(memory_format=torch.channels_last)
    fast = copy.deepcopy(plain)
    speed_up_on_cpu(fast, bfloat16=False)
    kinds = [type(module) for module in fast.modules()]
    assert (kinds.count(BatchNormReLU6), kinds.count(Depthwise)) == (27, 13)
    assert fast.state_dict().keys() == plain.state_dict().keys()
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


@pytest.mark.parametrize("recurrence", ["bidirectional", "forward_twice"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_captions_read_by_length_learn_the_same(
    count: int, recurrence: Literal["bidirectional", "forward_twice"]
) -> None:
    torch.manual_seed(0)
    plain = CaptionTower(Architecture("mobilenet_v1", 50, 8, 12, 16, recurrence))
    fast = copy.deepcopy(plain)
    speed_up_on_cpu(fast, bfloat16=False)
    assert type(fast) is CaptionTowerByLength
    lengths = torch.randint(1, 9, (count,))
    words = torch.randint(50, (count, 8))
    vectors = [tower(words, lengths) for tower in (plain, fast)]
    torch.testing.assert_close(vectors[1], vectors[0])
    for found in vectors:
        found.square().sum().backward()
    for (name, expected), weight in zip(plain.named_parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, expected.grad, msg=name)


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


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("/nowhere/cc", "No such file or directory: '/nowhere/cc'"),
        ("false", "false fails"),
        ("/dev/null", "Permission denied: '/dev/null'"),
        ("true", "kernels.so: cannot open shared object file"),  # as in a folder without exec
        ("cc '", "No closing quotation"),
    ],
)
def test_without_a_compiler_the_network_stays_as_it_is_and_a_warning_says_so(
    compiler: str, reason: str
) -> None:
    program = """
from torch import nn
from training.fast.on_cpu import speed_up_on_cpu
network = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU6())
speed_up_on_cpu(network, bfloat16=False)
print(*(type(module).__name__ for module in network))
"""
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "CC": compiler},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["BatchNorm2d", "ReLU6"]
    assert "training will be slower, as nothing can be compiled here" in found.stderr
    assert reason in found.stderr


def test_freed_memory_is_used_again() -> None:
    """In a process of its own, as what malloc is told holds until a process ends."""
    program = """
import resource, torch
from training.fast.on_cpu import keep_memory
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
