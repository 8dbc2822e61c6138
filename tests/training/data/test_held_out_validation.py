"""Without a split val some training people become one, and the test is left for the end."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.embedder.dcpl.model_directory import load_model
from training.checkpoint import UnusableCheckpoint
from training.data.datasets import (
    Dataset,
    InvalidDataset,
    PersonImage,
    with_validation,
)
from training.distributed import DistributedContext
from training.recipe import Recipe
from training.run import read_history
from training.train import train


def of_people(people: int) -> Dataset:
    """Three images of each in the split train, and one of another person in the split test."""
    images = [
        PersonImage(f"{identity}/{number}.jpg", identity, ("A man in red.",), "train")
        for number in range(3)
        for identity in range(people)
    ]
    return Dataset("own", Path("imgs"), (*images, replace(images[0], identity=-1, split="test")))


def held_out(dataset: Dataset, seed: int) -> set[int]:
    return {image.identity for image in with_validation(dataset, seed).split("val")}


@pytest.fixture
def without_val(dataset: Dataset) -> Dataset:
    return replace(dataset, images=tuple(i for i in dataset.images if i.split != "val"))


def test_a_data_set_with_a_split_val_stays_as_it_is(dataset: Dataset) -> None:
    assert with_validation(dataset, seed=1) is dataset


def test_five_percent_of_the_people_move_with_all_their_images() -> None:
    dataset = of_people(100)
    found = with_validation(dataset, seed=1)
    assert found.held_out
    assert [image.file for image in found.images] == [image.file for image in dataset.images]
    assert found.split("test") == dataset.split("test")
    validating = held_out(dataset, seed=1)
    assert len(validating) == 5
    assert len(found.split("val")) == 5 * 3
    assert validating.isdisjoint(image.identity for image in found.split("train"))


def test_the_seed_decides_who_it_is_and_the_order_of_the_images_does_not() -> None:
    dataset = of_people(100)
    turned = replace(dataset, images=dataset.images[::-1])
    assert held_out(turned, seed=1) == held_out(dataset, seed=1)
    assert held_out(dataset, seed=2) != held_out(dataset, seed=1)


def test_people_about_whom_nothing_is_said_are_not_held_out() -> None:
    dataset = of_people(4)
    images = (replace(i, captions=("...",)) if i.identity == 2 else i for i in dataset.images)
    silent = replace(dataset, images=tuple(images))
    assert all(len(held_out(silent, seed) - {2}) == 2 for seed in range(20))


def test_too_few_people_to_hold_some_out_are_said() -> None:
    with pytest.raises(InvalidDataset, match=r"2 people .* are too few to hold 2 out; add a split"):
        with_validation(of_people(2), seed=1)


def test_the_test_split_has_no_part_in_choosing_the_epoch(
    without_val: Dataset, tiny: Recipe, cpu: DistributedContext, tmp_path: Path
) -> None:
    images = (replace(i, file="gone") if i.split == "test" else i for i in without_val.images)
    data = with_validation(replace(without_val, images=tuple(images)), tiny.seed)
    train(data, replace(tiny, epochs=1), tmp_path, name="m", context=cpu)
    (row,) = read_history(tmp_path)
    assert row["validation"]["queries"] == 16
    _, card = load_model(tmp_path / "model")
    assert card.training_data.startswith("56 images of 14 people, the split train of ")
    assert card.training_data.endswith(" without 2 people, held out for validation")


def test_a_run_goes_on_with_the_same_people_held_out_and_no_others(
    without_val: Dataset, tiny: Recipe, cpu: DistributedContext, tmp_path: Path
) -> None:
    recipe = replace(tiny, epochs=1)
    train(with_validation(without_val, seed=1), recipe, tmp_path, name="m", context=cpu)
    train(with_validation(without_val, seed=1), recipe, tmp_path, name="m", context=cpu)
    with pytest.raises(UnusableCheckpoint, match="was made with another"):
        train(with_validation(without_val, seed=2), recipe, tmp_path, name="m", context=cpu)
