"""Readers of captioned pedestrian data sets; every layout becomes the same list of images."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from services.embedder.dcpl.vocabulary import tokenise

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
HELD_OUT = 0.05
"""Share of the training people held out for validation where there is no split val."""
FEWEST_HELD_OUT = 2
"""With a single person there would be nothing to rank."""


class InvalidDataset(ValueError):
    """The data set cannot be read as it is; the message names the file and the remedy."""


@dataclass(frozen=True)
class PersonImage:
    """One image of one person."""

    file: str
    """Path below the data set's image folder; the image's name everywhere."""
    identity: int
    captions: tuple[str, ...]
    split: Split


@dataclass(frozen=True)
class Dataset:
    name: str
    image_root: Path
    images: tuple[PersonImage, ...]
    held_out: bool = False
    """Whether the split val was taken from the split train, for want of one."""

    def split(self, split: Split) -> list[PersonImage]:
        """The images of one split, in the order of the file."""
        return [image for image in self.images if image.split == split]


def read_dataset(root: Path) -> Dataset:
    """Recognise the layout below `root` by its annotation file and read it.

    Raises InvalidDataset, naming every layout that was looked for.
    """
    for layout in LAYOUTS:
        if (root / layout.annotations).is_file():
            folder = next(
                (root / name for name in layout.image_folders if (root / name).is_dir()), None
            )
            if folder is None:
                raise InvalidDataset(
                    f"{root}: has {layout.annotations} but no folder "
                    f"{' or '.join(layout.image_folders)}; put the images beside it"
                )
            images = tuple(layout.read(root / layout.annotations))
            if not images:
                raise InvalidDataset(f"{root / layout.annotations}: lists no images")
            return Dataset(layout.name, folder, images)
    known = ", ".join(f"{layout.annotations} ({layout.name})" for layout in LAYOUTS)
    raise InvalidDataset(f"{root}: no data set here; looked for {known}")


def with_validation(dataset: Dataset, seed: int) -> Dataset:
    """The data set, if it has a split val; else with 5 % of its training people in one.

    A person's images stay together. The seed and the identities alone decide who it is, so a run
    that goes on validates among the same people. Raises InvalidDataset if there are too few.
    """
    if dataset.split("val"):
        return dataset
    described = {
        image.identity for image in dataset.split("train") if any(map(tokenise, image.captions))
    }
    count = max(FEWEST_HELD_OUT, round(HELD_OUT * len(described)))
    if len(described) <= count:
        raise InvalidDataset(
            f"{dataset.image_root}: there is no split val, and {len(described)} people with "
            f"captions in the split train are too few to hold {count} out; add a split val"
        )

    def drawn(identity: int) -> bytes:  # by a digest, which no version of Python changes
        return hashlib.sha256(f"{seed} {identity}".encode()).digest()

    held_out = set(sorted(described, key=drawn)[:count])
    images = (
        replace(image, split="val")
        if image.split == "train" and image.identity in held_out
        else image
        for image in dataset.images
    )
    return replace(dataset, images=tuple(images), held_out=True)


def digest(images: Sequence[PersonImage]) -> str:
    """Of files, identities and captions, in their order."""
    found = hashlib.sha256()
    for image in images:
        found.update(json.dumps([image.file, image.identity, image.captions]).encode())
    return found.hexdigest()


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidDataset(f"{path}: not JSON ({error}); fetch the file again") from error


def _json_entries(path: Path) -> list[dict[str, Any]]:
    entries = _json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidDataset(f"{path}: expected a list of objects, one for each image")
    return entries


def _image(path: Path, number: int, entry: dict[str, Any], file_key: str) -> PersonImage:
    """One entry of a JSON annotation file; `number` counts from 1, for the message."""
    try:
        captions = entry["captions"]
        image = PersonImage(
            file=str(entry[file_key]),
            identity=int(entry["id"]),
            captions=tuple(str(caption) for caption in captions),
            split=entry["split"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidDataset(
            f"{path}: entry {number}: missing or invalid {error}; it needs id, {file_key}, "
            f"captions and split"
        ) from error
    if isinstance(captions, str):
        raise InvalidDataset(f"{path}: entry {number}: captions must be a list of strings")
    if image.split not in SPLITS:
        raise InvalidDataset(
            f"{path}: entry {number}: unknown split {image.split!r}; "
            f"choose one of {', '.join(SPLITS)}"
        )
    return image


def _read_json(file_key: str) -> Callable[[Path], Iterator[PersonImage]]:
    def read(path: Path) -> Iterator[PersonImage]:
        for number, entry in enumerate(_json_entries(path), start=1):
            yield _image(path, number, entry, file_key)

    return read


def _read_plain(path: Path) -> Iterator[PersonImage]:
    """{id, file_path, captions} with the splits in split.json: {"train": [id, ...], ...}."""
    split_file = path.with_name("split.json")
    if not split_file.is_file():
        raise InvalidDataset(
            f'{path}: needs split.json beside it: {{"train": [id, ...], "val": [], "test": []}}'
        )
    splits = _json(split_file)
    if (
        not isinstance(splits, dict)
        or not set(splits) <= set(SPLITS)
        or not all(isinstance(members, list) for members in splits.values())
    ):
        raise InvalidDataset(
            f"{split_file}: expected an object of {', '.join(SPLITS)}, each a list of identities"
        )
    try:
        split_of = {int(name): split for split, members in splits.items() for name in members}
    except (TypeError, ValueError) as error:
        raise InvalidDataset(
            f"{split_file}: {error}; list the ids of {path.name}, which are whole numbers"
        ) from error
    if len(split_of) < sum(map(len, splits.values())):
        raise InvalidDataset(f"{split_file}: an identity is listed in two splits, or twice in one")
    for number, entry in enumerate(_json_entries(path), start=1):
        split = split_of.get(entry.get("id", -1))
        if split is None:
            raise InvalidDataset(f"{path}: entry {number}: id is in no split of {split_file.name}")
        yield _image(path, number, entry | {"split": split}, "file_path")


def _read_csv(path: Path) -> Iterator[PersonImage]:
    """Columns file, identity, caption, split; a line for each caption, in any order.

    Identities may be any text; they are numbered in the order of their first line.
    """
    with path.open(encoding="utf-8-sig", newline="") as lines:  # spreadsheets write the mark
        reader = csv.DictReader(lines)
        try:
            missing = {"file", "identity", "caption", "split"} - set(reader.fieldnames or ())
            if missing:
                raise InvalidDataset(f"{path}: the first line lacks {', '.join(sorted(missing))}")
            rows = list(reader)
        except UnicodeDecodeError as error:
            raise InvalidDataset(f"{path}: not UTF-8 ({error}); save it as UTF-8") from error
        except csv.Error as error:
            raise InvalidDataset(f"{path}: not CSV ({error}); is a quote left open?") from error
    identities = {name: i for i, name in enumerate(dict.fromkeys(r["identity"] for r in rows))}
    captions: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        key = (row["file"], row["identity"], row["split"])
        captions.setdefault(key, []).append(row["caption"] or "")
    for number, ((file, identity, split), texts) in enumerate(captions.items(), start=1):
        entry = {"id": identities[identity], "file": file, "captions": texts, "split": split}
        yield _image(path, number, entry, "file")


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk, and how large its publication says it is."""

    name: str
    annotations: str
    image_folders: Sequence[str]
    read: Callable[[Path], Iterator[PersonImage]]
    published: tuple[tuple[Split, int, int], ...] = ()
    """(split, images, identities)"""


LAYOUTS = (
    Layout(
        "CUHK-PEDES",
        "reid_raw.json",
        ("imgs",),
        _read_json("file_path"),
        (("train", 34_054, 11_003), ("val", 3_078, 1_000), ("test", 3_074, 1_000)),
    ),
    Layout(
        "ICFG-PEDES",
        "ICFG-PEDES.json",
        ("imgs", "ICFG-PEDES"),
        _read_json("file_path"),
        (("train", 34_674, 3_102), ("test", 19_848, 1_000)),
    ),
    Layout(
        "RSTPReid",
        "data_captions.json",
        ("imgs",),
        _read_json("img_path"),
        (("train", 18_505, 3_701), ("val", 1_000, 200), ("test", 1_000, 200)),
    ),
    Layout("captions with a split file", "caption_all.json", ("imgs",), _read_plain),
    Layout("table", "captions.csv", ("imgs", "."), _read_csv),
)
