"""Which images stand together in a batch, and that nothing but the seed decides it."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from services.embedder.dcpl.vocabulary import Vocabulary
from training.data.batches import (
    TrainingImages,
    batches,
    epoch_order,
    generator_for,
    load_training_images,
    pad,
)
from training.data.datasets import Dataset, InvalidDataset
from training.recipe import Recipe


@pytest.fixture
def data(dataset: Dataset, tiny: Recipe, tmp_path: Path) -> TrainingImages:
    captions = [caption for image in dataset.split("train") for caption in image.captions]
    return load_training_images(dataset, tiny, Vocabulary.build(captions), tmp_path)


def test_an_epoch_holds_each_image_once_with_a_persons_images_side_by_side() -> None:
    identities = torch.arange(50).repeat_interleave(4)[torch.randperm(200)]
    order = epoch_order(identities, 2, generator_for(1))
    assert sorted(order.tolist()) == list(range(200))
    pairs = identities[order].view(-1, 2)
    assert torch.equal(pairs[:, 0], pairs[:, 1])
    # The two pairs of a person are chunks of their own, not one of four.
    neighbours = (pairs[1:, 0] == pairs[:-1, 0]).sum()
    assert neighbours < 10


def test_one_image_a_person_spreads_people_over_the_epoch() -> None:
    identities = torch.arange(50).repeat_interleave(4)
    order = epoch_order(identities, 1, generator_for(1))
    assert sorted(order.tolist()) == list(range(200))
    assert (identities[order][1:] == identities[order][:-1]).sum() < 15


def test_odd_numbers_of_images_a_person_are_kept() -> None:
    identities = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2, 2])
    assert sorted(epoch_order(identities, 2, generator_for(3)).tolist()) == list(range(9))


def test_the_seed_decides_and_epochs_differ(data: TrainingImages, tiny: Recipe) -> None:
    def seen(recipe: Recipe, epoch: int) -> list[list[int]]:
        return [batch.words.flatten().tolist() for batch in batches(data, recipe, epoch)]

    assert seen(tiny, 0) == seen(tiny, 0)
    assert seen(tiny, 0) != seen(tiny, 1)
    assert seen(tiny, 0) != seen(replace(tiny, seed=2), 0)


def test_generators_of_neighbouring_seeds_have_nothing_in_common() -> None:
    drawn = {
        torch.rand(1, generator=generator_for(seed, epoch, step)).item()
        for seed in range(3)
        for epoch in range(3)
        for step in range(3)
    }
    assert len(drawn) == 27


def test_each_image_brings_captions_of_its_own(data: TrainingImages, tiny: Recipe) -> None:
    recipe = replace(tiny, word_dropout=0.0)
    batch = next(batches(data, recipe, 0))
    order = epoch_order(data.identities, 2, generator_for(recipe.seed, 0))[: recipe.batch_size]
    assert torch.equal(batch.identities, data.identities[order])
    assert batch.images.shape == (16, 32, 32, 3)
    for row, image in enumerate(order.tolist()):
        said = [
            batch.words[caption, : batch.lengths[caption]].tolist()
            for caption in (2 * row, 2 * row + 1)
        ]
        assert sorted(said) == sorted(data.captions[image])


def test_an_image_with_one_caption_repeats_it(data: TrainingImages, tiny: Recipe) -> None:
    single = replace(data, captions=[captions[:1] for captions in data.captions])
    batch = next(batches(single, replace(tiny, word_dropout=0.0), 0))
    assert torch.equal(batch.words[0], batch.words[1])


def test_dropped_words_become_unknown_and_padding_stays(data: TrainingImages, tiny: Recipe) -> None:
    batch = next(batches(data, replace(tiny, word_dropout=0.5), 0))
    exists = torch.arange(batch.words.shape[1]) < batch.lengths[:, None]
    assert (batch.words[~exists] == data.vocabulary.padding).all()
    share = (batch.words[exists] == data.vocabulary.unknown).double().mean().item()
    assert share == pytest.approx(0.5, abs=0.1)


def test_the_processes_of_a_run_divide_each_batch(data: TrainingImages, tiny: Recipe) -> None:
    whole = next(batches(data, tiny, 0))
    halves = [next(batches(data, tiny, 0, rank=rank, world_size=2)) for rank in (0, 1)]
    assert torch.equal(torch.stack([h.identities for h in halves], 1).flatten(), whole.identities)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
def test_loaders_prepare_the_same_batches_in_the_same_order(
    data: TrainingImages, tiny: Recipe
) -> None:
    small = replace(tiny, batch_size=8)
    alone, shared = list(batches(data, small, 0)), list(batches(data, small, 0, loaders=3))
    assert len(alone) == len(shared) == 8
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.words, other.words)
        assert torch.equal(one.identities, other.identities)


class Unsendable(np.memmap):
    def __reduce__(self) -> tuple[object, ...]:
        raise AssertionError("the decoded images are copied to a worker")


def test_loaders_share_the_decoded_images_however_python_starts_processes(
    data: TrainingImages, tiny: Recipe
) -> None:
    shared = replace(data, pixels=data.pixels.view(Unsendable))
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("forkserver", force=True)  # as Python 3.14 does
    try:
        assert len(list(batches(shared, tiny, 0, loaders=1))) == 4
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_fewer_images_than_a_batch_are_refused(data: TrainingImages, tiny: Recipe) -> None:
    with pytest.raises(InvalidDataset, match="64 images, fewer than one batch of 65"):
        next(batches(data, replace(tiny, batch_size=65), 0))


def test_images_about_which_nothing_is_said_are_left_out(
    dataset: Dataset, tiny: Recipe, tmp_path: Path
) -> None:
    silent = replace(dataset.split("train")[0], captions=("...", ""))
    quieter = replace(dataset, images=(silent, *dataset.split("train")[1:]))
    data = load_training_images(quieter, tiny, Vocabulary(words=("man",)), tmp_path)
    assert len(data.captions) == len(data.identities) == len(data.pixels) == 63


def test_a_split_without_any_caption_is_refused(
    dataset: Dataset, tiny: Recipe, tmp_path: Path
) -> None:
    silent = tuple(replace(image, captions=()) for image in dataset.images)
    with pytest.raises(InvalidDataset, match="no image of the split train has a caption"):
        load_training_images(replace(dataset, images=silent), tiny, Vocabulary(()), tmp_path)


def test_padding_comes_behind_the_words() -> None:
    words, lengths = pad([[5], [6, 7, 8]], padding=0)
    assert words.tolist() == [[5, 0, 0], [6, 7, 8]]
    assert lengths.tolist() == [1, 3]
