"""Every published layout becomes the same list of images, or says what is wrong with it."""

import json
from pathlib import Path
from typing import Any

import pytest

from training.data.datasets import InvalidDataset, PersonImage, read_dataset

CAPTIONS = ["A man in red.", "He wears blue trousers."]


def write(root: Path, annotations: str, content: Any, images: str = "imgs") -> Path:
    (root / images).mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (root / annotations).write_text(text, encoding="utf-8")
    return root


def entry(**changes: Any) -> dict[str, Any]:
    return {"split": "train", "id": 7, "captions": CAPTIONS, "file_path": "a/1.jpg"} | changes


EXPECTED = PersonImage(file="a/1.jpg", identity=7, captions=tuple(CAPTIONS), split="train")


def test_cuhk_pedes_is_read(tmp_path: Path) -> None:
    tokens = [["a", "man"], ["he"]]
    test = entry(split="test", id=8, file_path="b/2.jpg", processed_tokens=tokens)
    dataset = read_dataset(write(tmp_path, "reid_raw.json", [entry(), test]))
    assert dataset.name == "CUHK-PEDES"
    assert dataset.image_root == tmp_path / "imgs"
    assert dataset.split("train") == [EXPECTED]
    assert [image.identity for image in dataset.split("test")] == [8]
    assert dataset.split("val") == []


@pytest.mark.parametrize(
    ("annotations", "key", "images", "name"),
    [
        ("ICFG-PEDES.json", "file_path", "imgs", "ICFG-PEDES"),
        ("ICFG-PEDES.json", "file_path", "ICFG-PEDES", "ICFG-PEDES"),
        ("data_captions.json", "img_path", "imgs", "RSTPReid"),
    ],
)
def test_icfg_pedes_and_rstpreid_are_read(
    tmp_path: Path, annotations: str, key: str, images: str, name: str
) -> None:
    listed = {"split": "train", "id": 7, "captions": CAPTIONS, key: "a/1.jpg"}
    dataset = read_dataset(write(tmp_path, annotations, [listed], images))
    assert (dataset.name, dataset.image_root.name) == (name, images)
    assert dataset.images == (EXPECTED,)


def test_the_plain_form_takes_its_splits_from_a_file_beside_it(tmp_path: Path) -> None:
    plain = [
        {"id": 7, "file_path": "a/1.jpg", "captions": CAPTIONS},
        {"id": 9, "file_path": "b/1.jpg", "captions": ["Red."]},
    ]
    write(tmp_path, "split.json", {"train": [7], "test": [9]})
    dataset = read_dataset(write(tmp_path, "caption_all.json", plain))
    assert dataset.split("train") == [EXPECTED]
    assert [image.file for image in dataset.split("test")] == ["b/1.jpg"]


def test_the_plain_form_without_splits_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"needs split\.json beside it"):
        read_dataset(write(tmp_path, "caption_all.json", [entry()]))


def test_an_identity_in_two_splits_of_the_split_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "split.json", {"train": [7], "test": [7]})
    with pytest.raises(InvalidDataset, match="two splits"):
        read_dataset(write(tmp_path, "caption_all.json", [entry()]))


def test_a_split_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    write(tmp_path, "split.json", "{train")
    with pytest.raises(InvalidDataset, match=r"split\.json: not JSON"):
        read_dataset(write(tmp_path, "caption_all.json", [entry()]))


@pytest.mark.parametrize("identity", ["anna", None, [7]])
def test_a_split_file_with_something_else_than_ids_is_named(tmp_path: Path, identity: Any) -> None:
    write(tmp_path, "split.json", {"train": [7, identity]})
    with pytest.raises(InvalidDataset, match=r"split\.json: .*; list the ids of caption_all\.json"):
        read_dataset(write(tmp_path, "caption_all.json", [entry()]))


def test_an_identity_in_no_split_is_named(tmp_path: Path) -> None:
    write(tmp_path, "split.json", {"train": [1]})
    with pytest.raises(InvalidDataset, match=r"entry 1: id is in no split"):
        read_dataset(write(tmp_path, "caption_all.json", [entry()]))


def test_a_table_has_a_line_for_each_caption_and_names_for_people(tmp_path: Path) -> None:
    table = (
        "file,identity,caption,split\n"
        'a/1.jpg,anna,"A woman, smiling",train\n'
        "b/1.jpg,ben,A man,test\n"
        "a/1.jpg,anna,A second line,train\n"
    )
    dataset = read_dataset(write(tmp_path, "captions.csv", table))
    assert dataset.images == (
        PersonImage("a/1.jpg", 0, ("A woman, smiling", "A second line"), "train"),
        PersonImage("b/1.jpg", 1, ("A man",), "test"),
    )


def test_a_table_without_a_column_says_which(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="lacks identity, split"):
        read_dataset(write(tmp_path, "captions.csv", "file,caption\na.jpg,red\n"))


def test_a_table_from_a_spreadsheet_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    table = "\ufefffile,identity,caption,split\na/1.jpg,anna,A woman,train\n"
    dataset = read_dataset(write(tmp_path, "captions.csv", table))
    assert dataset.images == (PersonImage("a/1.jpg", 0, ("A woman",), "train"),)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (
            "a.jpg,anna,caf\xe9,train\n".encode("latin-1"),
            r"captions\.csv: not UTF-8 .*; save it as",
        ),
        (
            b'a.jpg,anna,"' + b"red " * 50_000,
            r"captions\.csv: not CSV .*; is a quote left open",
        ),
    ],
)
def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, line: bytes, complaint: str) -> None:
    write(tmp_path, "captions.csv", "")
    (tmp_path / "captions.csv").write_bytes(b"file,identity,caption,split\n" + line)
    with pytest.raises(InvalidDataset, match=complaint):
        read_dataset(tmp_path)


def test_a_folder_without_annotations_lists_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"reid_raw\.json.*captions\.csv"):
        read_dataset(tmp_path)


def test_missing_images_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "reid_raw.json").write_text("[]")
    with pytest.raises(InvalidDataset, match="no folder imgs; put the images beside it"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[{", "not JSON"),
        ("[]", "lists no images"),
        ('{"a": 1}', "expected a list of objects"),
        (
            [entry(), entry(split="dev")],
            "entry 2: unknown split 'dev'; choose one of train, val, test",
        ),
        ([entry(id="anna")], "entry 1: missing or invalid"),
        ([{"split": "train"}], "entry 1: missing or invalid 'captions'"),
        ([entry(captions="A man")], "captions must be a list of strings"),
    ],
)
def test_broken_annotations_are_named_by_entry(
    tmp_path: Path, content: Any, complaint: str
) -> None:
    with pytest.raises(InvalidDataset, match=complaint):
        read_dataset(write(tmp_path, "reid_raw.json", content))
