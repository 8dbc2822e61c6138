"""Embedding a split and measuring in it: the same figures whatever the batch size."""

import copy
import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from services.embedder.dcpl.network import Architecture, Dcpl
from services.embedder.dcpl.vocabulary import Vocabulary
from training.data.datasets import Dataset, InvalidDataset, PersonImage
from training.data.pixels import decoded
from training.distributed import DistributedContext
from training.evaluation.evaluate import EmbeddedSplit, evaluate, evaluate_split
from training.finalise import summary


@pytest.fixture(scope="module")
def vocabulary(dataset: Dataset) -> Vocabulary:
    return Vocabulary.build(c for image in dataset.split("train") for c in image.captions)


@pytest.fixture(scope="module")
def network(vocabulary: Vocabulary) -> Dcpl:
    torch.manual_seed(0)
    architecture = Architecture(
        vocabulary_size=len(vocabulary), word_dimension=8, hidden=8, dimension=16
    )
    return Dcpl(architecture).eval()


def test_figures_do_not_depend_on_the_batch_size_and_device(
    dataset: Dataset,
    vocabulary: Vocabulary,
    network: Dcpl,
    context: DistributedContext,
    tmp_path: Path,
) -> None:
    found = [
        evaluate_split(
            copy.deepcopy(network).to(device),
            vocabulary,
            dataset,
            "train",
            height=32,
            width=32,
            cache=tmp_path,
            batch_size=batch_size,
        )
        for batch_size, device in ((1, "cpu"), (7, context.device), (64, context.device))
    ]
    one, *others = found
    for embedded, evaluation in others:
        for vectors in ("image_vectors", "caption_vectors"):
            same = getattr(embedded, vectors), getattr(one[0], vectors)
            torch.testing.assert_close(*same, atol=1e-5, rtol=1e-5, msg=vectors)
        assert embedded.captions == one[0].captions
        for name, figure in evaluation.text_to_image.as_dict().items():
            assert figure == pytest.approx(one[1].text_to_image.as_dict()[name], abs=0.05), name


def test_each_image_is_in_the_gallery_once_and_each_caption_asks(
    dataset: Dataset, vocabulary: Vocabulary, network: Dcpl, tmp_path: Path
) -> None:
    embedded, evaluation = evaluate_split(
        network, vocabulary, dataset, "test", height=32, width=32, cache=tmp_path
    )
    images = dataset.split("test")
    assert evaluation.gallery_images == len(embedded.image_vectors) == len(images) == 8
    assert evaluation.text_to_image.queries == len(embedded.captions) == 16
    assert evaluation.image_to_text.queries == 8
    assert evaluation.identities == 2
    assert evaluation.chance_rank_1 == pytest.approx(50)  # 4 images of each of two people


def test_both_directions_are_those_worked_out_by_hand(dataset: Dataset) -> None:
    """Two people, an image each; two captions of the first, one of the second, which points at
    the first person's image."""
    first, second = replace(dataset.images[0], identity=1), replace(dataset.images[0], identity=2)
    embedded = EmbeddedSplit(
        images=[first, second],
        image_vectors=torch.eye(2),
        image_identities=torch.tensor([1, 2]),
        captions=["a", "b", "c"],
        caption_vectors=torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.96, 0.28]]),
        caption_identities=torch.tensor([1, 1, 2]),
    )
    found = evaluate(embedded, torch.device("cpu"))
    assert found.text_to_image.rank_1 == pytest.approx(100 * 2 / 3)
    assert found.text_to_image.mean_average_precision == pytest.approx(100 * (1 + 1 + 1 / 2) / 3)
    # Image 1 ranks a, c, b; image 2 ranks b, c, a and is only described by c.
    assert found.image_to_text.rank_1 == pytest.approx(100 * 1 / 2)
    assert found.image_to_text.mean_average_precision == pytest.approx(
        100 * ((1 / 1 + 2 / 3) / 2 + 1 / 2) / 2
    )
    assert found.image_to_text.mean_inverse_negative_penalty == pytest.approx(
        100 * (2 / 3 + 1 / 2) / 2
    )
    card = summary(found)
    assert card["rank_1"] == 66.67
    assert card["chance_rank_1"] == 50
    low, high = card["rank_1_95_percent_interval"]
    assert low <= 66.67 <= high


def test_captions_without_words_are_no_queries(
    dataset: Dataset, vocabulary: Vocabulary, network: Dcpl, tmp_path: Path
) -> None:
    images = dataset.split("test")
    silent = replace(images[0], captions=("...", *images[0].captions))
    quieter = replace(dataset, images=(silent, *images[1:]))
    embedded, _ = evaluate_split(
        network, vocabulary, quieter, "test", height=32, width=32, cache=tmp_path
    )
    assert len(embedded.captions) == 16


def test_an_empty_split_is_named(
    dataset: Dataset, vocabulary: Vocabulary, network: Dcpl, tmp_path: Path
) -> None:
    only_training = replace(dataset, images=tuple(dataset.split("train")))
    with pytest.raises(InvalidDataset, match="the split test is empty"):
        evaluate_split(
            network, vocabulary, only_training, "test", height=32, width=32, cache=tmp_path
        )


def test_an_image_that_cannot_be_read_is_named(
    dataset: Dataset, vocabulary: Vocabulary, network: Dcpl, tmp_path: Path
) -> None:
    gone = replace(dataset.split("test")[0], file="gone.jpg")
    with pytest.raises(InvalidDataset, match=r"gone\.jpg.*`prepare` lists all such images"):
        evaluate_split(
            network,
            vocabulary,
            replace(dataset, images=(gone,)),
            "test",
            height=32,
            width=32,
            cache=tmp_path,
        )
    assert not list(tmp_path.iterdir())


def test_a_split_without_a_single_word_is_named(
    dataset: Dataset, vocabulary: Vocabulary, network: Dcpl, tmp_path: Path
) -> None:
    silent = tuple(replace(image, captions=("...",)) for image in dataset.split("test"))
    with pytest.raises(InvalidDataset, match="no image of the split test has a caption"):
        evaluate_split(
            network,
            vocabulary,
            replace(dataset, images=silent),
            "test",
            height=32,
            width=32,
            cache=tmp_path,
        )


@pytest.mark.parametrize("changed", ["size", "time"])
def test_an_image_that_was_replaced_is_decoded_again(tmp_path: Path, changed: str) -> None:
    file = tmp_path / "a.bmp"
    image = PersonImage("a.bmp", 1, ("A man in red.",), "train")
    dataset = Dataset("own", tmp_path, (image,))

    def red_of(size: int, colour: str, time_ns: int) -> int:
        Image.new("RGB", (size, size), colour).save(file)
        os.utime(file, ns=(time_ns, time_ns))
        pixels = decoded(dataset, [image], height=32, width=32, cache=tmp_path / "pixels")
        return int(pixels[0, 0, 0, 0])

    assert red_of(32, "red", time_ns=1) == 255
    size, time_ns = (33, 1) if changed == "size" else (32, 2)
    assert red_of(size, "blue", time_ns) == 0


def test_no_room_for_decoded_images_is_said(dataset: Dataset, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match="the decoded images need 24,576 bytes here"):
            decoded(dataset, dataset.split("test"), height=32, width=32, cache=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
