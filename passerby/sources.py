"""What a person names to push becomes images: folders, files, lists of files, data sets."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TextIO

from passerby.errors import PasserbyError
from passerby.values import Failure, Image

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"))
ANNOTATIONS = "reid_raw.json"
DATASET_IMAGES = "imgs"


class InvalidSource(PasserbyError):
    """What was named cannot be pushed; the message says what can."""


@dataclass(frozen=True)
class Found:
    """An image file, and the name that it has in the gallery."""

    filename: str
    path: Path


@dataclass(frozen=True)
class About:
    """What is said about all images of one push."""

    camera: str = ""
    captured_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def find(source: str, standard_input: TextIO) -> list[Found]:
    """The images of one source, in an order that does not change.

    `-`: a list of files on standard input, one a line; a `.txt` file: such a list. Their names,
    and that of a single file, are the paths as they are written. A folder with reid_raw.json: a
    data set in CUHK-PEDES's layout, named by file_path. Any other folder: all images in it,
    named by their path below it. Raises InvalidSource.
    """
    if source == "-":
        return _listed(standard_input)
    path = Path(source)
    if path.is_dir():
        found = _dataset(path) if (path / ANNOTATIONS).is_file() else list(_walk(path))
    elif path.suffix.lower() == ".txt" and path.is_file():
        with path.open(encoding="utf-8", errors="surrogateescape") as lines:
            found = _listed(lines)
    elif path.exists():
        found = [Found(_name(source), path)]
    else:
        raise InvalidSource(f"{source}: there is no such file or folder")
    if not found:
        raise InvalidSource(f"{source}: no images in it; known are {', '.join(sorted(SUFFIXES))}")
    return found


def share(found: list[Found], index: int, of: int) -> list[Found]:
    """Every `of`-th image, from `index` on: disjoint shares that together are all of them."""
    return found[index::of]


def read(
    found: Iterable[Found], about: About, refuse: Callable[[Failure], None]
) -> Iterator[Image]:
    """Reads one file after the other; what cannot be read is given to `refuse`."""
    for item in found:
        try:
            data = item.path.read_bytes()
        except OSError as error:
            refuse(Failure(item.filename, f"{item.path}: {error.strerror}"))
            continue
        yield Image(
            item.filename,
            data,
            camera=about.camera,
            captured_at=about.captured_at,
            tags=about.tags,
        )


def _listed(lines: Iterable[str]) -> list[Found]:
    paths = [line.rstrip("\r\n") for line in lines]
    return [Found(_name(path), Path(path)) for path in paths if path.strip()]


def _name(path: str) -> str:
    return str(PurePosixPath(path))


def _walk(folder: Path) -> Iterator[Found]:
    """Folders that are links are not entered, as they may lead back; hidden ones are not meant."""
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(directory, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Found(path.relative_to(folder).as_posix(), path)


def _dataset(folder: Path) -> list[Found]:
    annotations, images = folder / ANNOTATIONS, folder / DATASET_IMAGES
    try:
        records = json.loads(annotations.read_text(encoding="utf-8"))
        names = dict.fromkeys(str(record["file_path"]) for record in records)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidSource(
            f"{annotations}: expected a list of objects with file_path ({error!r})"
        ) from error
    if outside := [name for name in names if ".." in Path(name).parts or Path(name).is_absolute()]:
        raise InvalidSource(f"{annotations}: {outside[0]!r} is not below {images}; mend the file")
    return [Found(name, images / name) for name in names]
