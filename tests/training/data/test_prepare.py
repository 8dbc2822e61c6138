"""What `prepare` finds in a data set before anything is trained on it."""

from dataclasses import replace
from pathlib import Path

from training.data.datasets import Dataset, PersonImage
from training.data.prepare import check


def image_of(dataset: Dataset, **changes: object) -> PersonImage:
    return replace(dataset.images[0], **changes)  # type: ignore[arg-type]


def kinds(dataset: Dataset, *added: PersonImage) -> dict[str, str]:
    """Kind of defect -> its detail, for the data set with images added."""
    findings = check(replace(dataset, images=(*dataset.images, *added)))
    return {defect.kind: defect.detail for defect in findings.defects}


def test_a_sound_data_set_has_no_defects_and_is_counted(dataset: Dataset) -> None:
    findings = check(dataset)
    assert findings.is_usable
    assert [(c.split, c.images, c.identities, c.captions) for c in findings.counts] == [
        ("train", 64, 16, 128),
        ("val", 8, 2, 16),
        ("test", 8, 2, 16),
    ]


def test_counts_stand_beside_the_published_ones(dataset: Dataset) -> None:
    train, val, _ = check(dataset).lines()
    assert "64 images" in train
    assert "(published: 34,054 and 11,003)" in train
    assert "(published: 3,078 and 1,000)" in val


def test_counts_as_published_say_so(dataset: Dataset) -> None:
    findings = check(dataset)
    same = replace(findings.counts[0], published=(64, 16))
    line = next(iter(replace(findings, counts=(same,)).lines()))
    assert line.endswith("(as published)")


def test_a_missing_image_is_named(dataset: Dataset) -> None:
    assert "gone.jpg" in kinds(dataset, image_of(dataset, file="gone.jpg"))["image missing"]


def test_a_broken_image_is_named_with_the_reason(dataset: Dataset, tmp_path: Path) -> None:
    whole = (dataset.image_root / dataset.images[0].file).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    elsewhere = Dataset("CUHK-PEDES", tmp_path, (image_of(dataset, file="cut.jpg"),))
    (defect,) = check(elsewhere).defects
    assert defect.kind == "image broken"
    assert "cut.jpg: cannot be decoded" in defect.detail


def test_a_person_in_two_splits_is_named(dataset: Dataset) -> None:
    identity = dataset.images[0].identity
    found = kinds(dataset, image_of(dataset, split="test"))
    assert found["person in two splits"] == f"id {identity}: test, train"


def test_an_image_listed_twice_is_named(dataset: Dataset) -> None:
    assert kinds(dataset, dataset.images[0])["image listed twice"].endswith(": 2 entries")


def test_captions_that_say_nothing_are_named(dataset: Dataset) -> None:
    file = dataset.images[0].file
    assert kinds(dataset, image_of(dataset, captions=()))["image without caption"] == file
    silent = kinds(dataset, image_of(dataset, captions=("A man", " ?! ")))
    assert silent["caption without words"] == f"{file}: caption 2"
    repeated = kinds(dataset, image_of(dataset, captions=("A man", "A man")))
    assert repeated["caption repeated for one image"] == file


def test_the_report_counts_each_kind_of_defect(dataset: Dataset) -> None:
    findings = check(replace(dataset, images=(*dataset.images, image_of(dataset, file="gone.jpg"))))
    assert not findings.is_usable
    assert "1 x image missing" in list(findings.lines())
