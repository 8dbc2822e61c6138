"""The data set on disk: its layout, its splits, and the same bytes for the same seed."""

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from services.embedder.dcpl.vocabulary import tokenise
from training.data.datasets import Dataset, read_dataset
from training.data.prepare import check
from training.synthetic.dataset import generate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    generate(folder, images=200, seed=3, workers=1)
    return folder


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return read_dataset(folder)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_files_depend_on_the_seed_and_not_on_the_number_of_workers(tmp_path: Path) -> None:
    generate(tmp_path / "alone", images=40, seed=3, workers=1)
    generate(tmp_path / "together", images=40, seed=3, workers=3)
    generate(tmp_path / "other", images=40, seed=4, workers=1)
    alone = files(tmp_path / "alone")
    assert len(alone) == 41
    assert alone == files(tmp_path / "together")
    assert not set(alone.values()) & set(files(tmp_path / "other").values())


def test_the_training_reader_finds_nothing_wrong_with_it(dataset: Dataset) -> None:
    assert dataset.name == "CUHK-PEDES"
    assert len(dataset.images) == 200
    assert check(dataset).is_usable


def test_splits_are_by_identity(dataset: Dataset) -> None:
    people = {s: {i.identity for i in dataset.split(s)} for s in ("train", "val", "test")}
    assert {split: len(ids) for split, ids in people.items()} == {"train": 40, "val": 4, "test": 6}
    assert len(people["train"] | people["val"] | people["test"]) == 50


def test_everybody_is_seen_by_four_cameras_with_two_captions_each(
    folder: Path, dataset: Dataset
) -> None:
    seen: dict[int, list[str]] = {}
    for image in dataset.images:
        seen.setdefault(image.identity, []).append(Path(image.file).parent.name)
        assert len(set(image.captions)) == 2
    assert {len(set(cameras)) for cameras in seen.values()} == {4}
    entry = json.loads((folder / "reid_raw.json").read_text())[0]
    assert set(entry) == {"split", "id", "file_path", "captions", "processed_tokens"}


def test_the_tokens_are_those_that_training_makes_of_the_captions(folder: Path) -> None:
    for entry in json.loads((folder / "reid_raw.json").read_text()):
        assert entry["processed_tokens"] == [tokenise(caption) for caption in entry["captions"]]


def test_images_are_upright_crops_of_a_detector(folder: Path, dataset: Dataset) -> None:
    heights: Counter[int] = Counter()
    for image in dataset.images:
        with Image.open(folder / "imgs" / image.file) as picture:
            assert picture.format == "JPEG"
            assert 128 <= picture.height <= 256
            assert 0.4 <= picture.width / picture.height <= 0.63
            heights[picture.height] += 1
    assert len(heights) > 40


def test_the_hard_set_is_a_test_split_of_lookalikes(tmp_path: Path) -> None:
    generate(tmp_path, images=48, seed=3, workers=1, hard=True)
    images = read_dataset(tmp_path).images
    assert {image.split for image in images} == {"test"}
    assert len({image.identity for image in images}) == 12


def test_fewer_images_than_a_multiple_of_four_leave_the_last_person_with_fewer(
    tmp_path: Path,
) -> None:
    reports: list[tuple[int, int]] = []
    generate(tmp_path, 10, seed=1, workers=1, on_progress=lambda *done: reports.append(done))
    assert reports == [(4, 10), (8, 10), (10, 10)]
    assert Counter(i.identity for i in read_dataset(tmp_path).images) == {1: 4, 2: 4, 3: 2}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_run_stops_and_does_not_pass_for_a_whole_data_set(
    tmp_path: Path, workers: int
) -> None:
    def interrupt(done: int, _: int) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    generate(tmp_path, images=4, seed=1, workers=1)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, images=2000, seed=1, workers=workers, on_progress=interrupt)
    assert not (tmp_path / "reid_raw.json").exists()
    assert len(list(tmp_path.rglob("*.jpg"))) < 1000


@pytest.mark.parametrize("images", [0, -4])
def test_no_images_are_refused_by_name(tmp_path: Path, images: int) -> None:
    with pytest.raises(ValueError, match=f"images: {images} "):
        generate(tmp_path, images=images, seed=1)
