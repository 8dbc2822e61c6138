"""The fast forward gives the plain network's vectors, on every tower and in any batch."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from services.embedder.dcpl.network import IMAGE_TOWERS
from services.embedder.dcpl.precision import choose_precision
from services.embedder.device import GPU_MEMORY, NoSuchDevice, choose_device, measure_memory
from services.embedder.encoder import Encoder
from tests.support.embedder import Bare
from tests.support.models import random_network
from tests.support.pictures import random_pixels

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
on_each_device = pytest.mark.parametrize(
    "device", [CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.cuda)], ids=str
)
# (height, width): the last two are too narrow for Intel's AMX.
SIZES = [(128, 64), (128, 48), (64, 32)]
PRECISIONS = {torch.float32: 0.99999, torch.bfloat16: 0.9999}


@on_each_device
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("image_tower", IMAGE_TOWERS)
def test_images_become_the_plain_networks_vectors_in_any_batch(
    image_tower: str, size: tuple[int, int], device: torch.device
) -> None:
    network, card = random_network(image_tower)
    card = replace(card, image_height=size[0], image_width=size[1])
    images = [random_pixels(seed, size) for seed in range(3)]
    bare = Bare(copy.deepcopy(network), card)
    expected = np.stack([bare.image(pixels) for pixels in images])
    for wanted in ("float32", "bfloat16"):
        precision = choose_precision(wanted, device, card.image_width)
        least = PRECISIONS[precision]
        encoder = Encoder(copy.deepcopy(network), card, device, precision)
        alone = np.concatenate([encoder.encode_images([pixels]) for pixels in images])
        for vectors in (encoder.encode_images(images), alone):
            assert vectors.dtype == np.float32
            assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
            assert (vectors * expected).sum(axis=1).min() > least


@on_each_device
@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
def test_a_captions_vector_does_not_depend_on_its_batch(
    precision: torch.dtype, device: torch.device
) -> None:
    network, card = random_network()
    bare = Bare(*random_network())
    encoder = Encoder(network, card, device, precision)
    captions = ["a", "a woman in a red dress", "man " * 60, "the blue coat with a green bag"]
    words = [card.vocabulary.encode(caption) for caption in captions]
    expected = np.stack([bare.caption(caption) for caption in captions])
    for vectors in (
        encoder.encode_captions(words),
        encoder.encode_captions(words[::-1])[::-1],
        np.concatenate([encoder.encode_captions([one]) for one in words]),
    ):
        assert (vectors * expected).sum(axis=1).min() > PRECISIONS[precision]


def test_vectors_that_are_not_finite_are_an_error_and_never_an_answer() -> None:
    network, card = random_network()
    network.image_projection.bias.data[3] = float("nan")
    encoder = Encoder(network, card, CPU, torch.float32)
    with pytest.raises(ArithmeticError, match="not finite"):
        encoder.encode_images([random_pixels(0)])


def test_a_missing_device_is_named_with_what_to_change() -> None:
    count = torch.cuda.device_count()
    with pytest.raises(NoSuchDevice, match=rf"EMBEDDER_DEVICE=cuda:{count}: .*auto or cpu"):
        choose_device(f"cuda:{count}")


def test_cpu_is_the_cpu_even_beside_a_gpu() -> None:
    assert choose_device("cpu") == CPU


def test_a_precision_that_was_asked_for_is_taken() -> None:
    assert choose_precision("float32", CPU, 128) == torch.float32
    assert choose_precision("bfloat16", CPU, 128) == torch.bfloat16


@pytest.mark.cuda
def test_the_memory_of_a_gpu_is_measured() -> None:
    measure_memory(torch.device("cuda"))
    (family,) = GPU_MEMORY.collect()
    memory = {sample.labels["kind"]: sample.value for sample in family.samples}
    assert 0 < memory["used"] < memory["total"]
