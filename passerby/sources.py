"""What a person names to push becomes images: folders, files, lists, data sets, buckets."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from passerby.errors import PasserbyError
from passerby.values import Failure, Image

SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
ANNOTATIONS = "reid_raw.json"
DATASET_IMAGES = "imgs"
SPLITS = ("train", "val", "test")


class InvalidSource(PasserbyError):
    """What was named cannot be pushed; the message says what can."""


@dataclass(frozen=True)
class Found:
    """Images below one folder or URL, by their names in the gallery."""

    root: str
    """`root/name` is the file; empty: the names are paths themselves."""
    names: list[str]
    remote: bool = False
    """The root is a URL that the indexer reads; only the images' URLs are pushed."""


@dataclass(frozen=True)
class About:
    """What is said about all images of one push."""

    camera: str = ""
    captured_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def find(
    source: str, standard_input: BinaryIO, *, split: str | None = None, shard: int = 0, of: int = 1
) -> Found:
    """The images of one source, or the share number `shard` of `of`, in a lasting order.

    `-`: a list of files on standard input, one a line; a `.txt` file: such a list. Their names,
    and that of a single file, are the paths as they are written. A folder with reid_raw.json: a
    data set in CUHK-PEDES's layout, named by file_path. Any other folder, or a URL such as
    s3://bucket/folder: all images in it, named by their path below it.

    split: only this split of a data set. Raises InvalidSource.
    """
    remote = "://" in source
    if split:
        root, names = str(Path(source, DATASET_IMAGES)), _dataset(Path(source), split)
    else:
        root, names = _remote(source) if remote else _local(source, standard_input)
    first = next(names, None)
    if first is None:
        raise InvalidSource(f"{source}: no images in it; known are {', '.join(SUFFIXES)}")
    # Shared out while walking: of a hundred million images no share has to hold them all.
    return Found(root, list(islice(chain([first], names), shard, None, of)), remote)


def images(
    found: Iterable[Found], about: About, refuse: Callable[[Failure], None]
) -> Iterator[Image]:
    """Reads one file after the other; what cannot be read is given to `refuse`."""
    for source in found:
        for name in source.names:
            path = f"{source.root}/{name}" if source.root else name
            data = None
            if not source.remote:
                try:
                    data = Path(path).read_bytes()
                except (OSError, ValueError) as error:
                    refuse(Failure(name, str(error)))
                    continue
            yield Image(
                filename=name,
                data=data,
                uri=path if source.remote else None,
                camera=about.camera,
                captured_at=about.captured_at,
                tags=about.tags,
            )


def _local(source: str, standard_input: BinaryIO) -> tuple[str, Iterator[str]]:
    if source == "-":
        return "", _lines(standard_input)
    path = Path(source)
    if path.is_dir():
        if (path / ANNOTATIONS).is_file():
            return str(path / DATASET_IMAGES), _dataset(path)
        return str(path), _walk(path)
    if not path.exists():
        raise InvalidSource(f"{source}: there is no such file or folder")
    if path.suffix.lower() == ".txt":
        return "", _lines(path.read_bytes().splitlines())
    return "", iter([_name(source)])


def _lines(lines: Iterable[bytes]) -> Iterator[str]:
    """A file's name may be any bytes; one that is no text is refused when it is pushed."""
    for line in lines:
        path = line.rstrip(b"\r\n")
        if path.strip():
            yield _name(os.fsdecode(path))


def _name(path: str) -> str:
    return str(PurePosixPath(path))


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _walk(folder: Path) -> Iterator[str]:
    """Folders that are links are not entered, as they may lead back; hidden ones are not meant."""
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(directory).relative_to(folder)
        for name in sorted(files):
            if _is_image(name):
                yield (below / name).as_posix()


def _dataset(folder: Path, split: str | None = None) -> Iterator[str]:
    annotations, images = folder / ANNOTATIONS, folder / DATASET_IMAGES
    try:
        records = json.loads(annotations.read_text(encoding="utf-8"))
        names = dict.fromkeys(
            str(record["file_path"])
            for record in records
            if split is None or record["split"] == split
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidSource(
            f"{annotations}: expected a list of objects with file_path and split ({error!r})"
        ) from error
    if outside := [name for name in names if ".." in Path(name).parts or Path(name).is_absolute()]:
        raise InvalidSource(f"{annotations}: {outside[0]!r} is not below {images}; mend the file")
    return iter(names)


def _remote(url: str) -> tuple[str, Iterator[str]]:
    """Lists a bucket or the like through fsspec, with the credentials of this environment."""
    try:
        from fsspec.core import url_to_fs

        files, root = url_to_fs(url)
        paths = files.find(root)
    except (ImportError, OSError, ValueError) as error:
        hint = ": pip install 'passerby[s3]'" if isinstance(error, ImportError) else ""
        raise InvalidSource(f"{url}: cannot be listed ({error}){hint}") from error
    names = (PurePosixPath(path).relative_to(root) for path in sorted(paths))
    return files.unstrip_protocol(root), (str(name) for name in names if _is_image(name.name))
