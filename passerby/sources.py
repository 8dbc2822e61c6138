"""Finds the images that `passerby push` is given: folders, files, lists, data sets, buckets."""

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice, zip_longest
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

from passerby.batches import MAX_IMAGE_BYTES
from passerby.errors import PasserbyError, Unavailable
from passerby.values import Failure, Image

SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
ANNOTATIONS = "reid_raw.json"
DATASET_IMAGES = "imgs"
SPLITS = ("train", "val", "test")
_FILE_URL = "file://"
# Of the file systems that fsspec knows; digests first.
_STAMPS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated")


class InvalidSource(PasserbyError):
    """What was named cannot be pushed; the message says what can."""


@dataclass(frozen=True)
class Listing:
    """Images below one folder or URL, by their names in the gallery."""

    root: str
    """`root/name` is the file; empty: the names are paths themselves."""
    names: list[str]
    remote: bool = False
    """The root is a URL that the indexer reads; only the images' URLs are pushed."""
    revisions: list[str] = field(default_factory=list)
    """Of a remote root, what changes with each image; empty where the storage does not say."""
    named: str = field(default="", compare=False)
    """The folder that was named: links below it are not followed unless asked."""


@dataclass(frozen=True)
class ImageMetadata:
    """What all images of one push have in common."""

    camera: str = ""
    captured_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def find(
    source: str, standard_input: BinaryIO, *, split: str | None = None, shard: int = 0, of: int = 1
) -> Listing:
    """The images of one source, or share number `shard` of `of`, in an order that is stable.

    `-`: a list of files on standard input, one a line; a `.txt` file: the same, in a file. Their
    names, and that of a single file, are the paths as they are written. A folder with
    reid_raw.json: a data set in CUHK-PEDES's layout, named by file_path. Any other folder, or a
    URL such as s3://bucket/folder: all images in it, named by their path below it.

    split: only this split of a data set. Raises InvalidSource, or Unavailable where listing fails
    for a reason that may pass.
    """
    remote = "://" in source
    with _listing_errors(source):
        if remote and not split:
            root, found = _remote(source)
        else:
            root, local = _local(source, standard_input, split)
            found = ((name, "") for name in local)
        first = next(found, None)
        if first is None:
            raise InvalidSource(
                f"{source}: no images in it; their names end in {', '.join(SUFFIXES)}"
            )
        # Shared out while walking: of a hundred million images no share has to hold them all.
        share = list(islice(chain([first], found), shard, None, of))
        names, revisions = [name for name, _ in share], [revision for _, revision in share]
        return Listing(root, names, remote, revisions if remote else [], source)


def images(
    listings: Iterable[Listing],
    metadata: ImageMetadata,
    reject: Callable[[Failure], None],
    *,
    follow_links: bool = False,
) -> Iterator[Image]:
    """Reads one file after the other; what cannot be read is given to `reject`.

    follow_links: else what a link below a folder leads to is not read, as it may lead to anything
    on this machine.
    """
    for listing in listings:
        for name, revision in zip_longest(listing.names, listing.revisions, fillvalue=""):
            # A character of a file's name may have a meaning in a URL.
            below = quote(os.fsencode(name)) if listing.root.startswith(_FILE_URL) else name
            path = f"{listing.root}/{below}" if listing.root else name
            data = None
            if not listing.remote:
                try:
                    if listing.root and not follow_links:
                        _reject_link(listing.named or listing.root, path)
                    data = _read_file(path)
                except (OSError, ValueError) as error:
                    reject(Failure(name, str(error)))
                    continue
            yield Image(
                filename=name,
                data=data,
                uri=path if listing.remote else None,
                revision=revision,
                camera=metadata.camera,
                captured_at=metadata.captured_at,
                tags=metadata.tags,
            )


def _reject_link(folder: str, path: str) -> None:
    """Raises ValueError if a part of the path, below the folder, is a link."""
    below = Path(path).relative_to(folder)
    if os.path.realpath(path) != str(Path(os.path.realpath(folder), below)):
        raise ValueError(f"{path}: is a link, or leads through one: push it with --follow-links")


def _read_file(path: str) -> bytes:
    """A regular file's bytes, and of one that is far too large the first that are too many."""
    # A pipe or a device would block for ever, and some act when they are only opened.
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise ValueError(f"{path}: is not a regular file")
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"{path}: is not a regular file")
        return file.read(MAX_IMAGE_BYTES + 1)


def _local(source: str, standard_input: BinaryIO, split: str | None) -> tuple[str, Iterator[str]]:
    if split:
        return str(Path(source, DATASET_IMAGES)), _dataset(Path(source), split)
    if source == "-":
        return "", _lines(standard_input)
    path = Path(source)
    if path.is_dir():
        if (path / ANNOTATIONS).is_file():
            return str(path / DATASET_IMAGES), _dataset(path)
        return str(path), _walk(path)
    if not path.exists():
        raise InvalidSource(f"{source}: no such file or folder")
    if path.suffix.lower() == ".txt":
        return "", _lines(path.read_bytes().splitlines())
    return "", iter([_name(source)])


def _lines(lines: Iterable[bytes]) -> Iterator[str]:
    """A file's name may be any bytes; one that is not text is rejected when it is pushed."""
    for line in lines:
        path = line.rstrip(b"\r\n")
        if path.strip():
            yield _name(os.fsdecode(path))


def _name(path: str) -> str:
    return str(PurePosixPath(path))


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


@contextlib.contextmanager
def _listing_errors(source: str) -> Iterator[None]:
    """Tells a source that is wrong from one that may work later."""
    try:
        yield
    except PasserbyError:
        raise
    except ImportError as error:
        raise InvalidSource(
            f"{source}: cannot be listed ({error}): pip install 'passerby[s3]'"
        ) from error
    except (ValueError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise InvalidSource(
            f"{source}: cannot be listed ({error}); nothing was pushed, as images would be missing"
        ) from error
    except Exception as error:  # each file system has its own
        raise Unavailable(f"{source}: cannot be listed now ({error})") from error


def _is_visible(folder: str) -> bool:
    """Neither hidden, nor what a file system keeps at its root for itself."""
    return not folder.startswith(".") and folder != "lost+found"


def _walk(folder: Path) -> Iterator[str]:
    """Folders that are links are not entered, as they may lead back."""

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # else it was deleted meanwhile
            raise error

    for directory, folders, files in os.walk(folder, onerror=fail):
        folders[:] = sorted(filter(_is_visible, folders))
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
        raise InvalidSource(
            f"{annotations}: {outside[0]!r} is not below {images}; correct the file"
        )
    return iter(names)


def _remote(url: str) -> tuple[str, Iterator[tuple[str, str]]]:
    """Lists a bucket or the like through fsspec, with the credentials of this environment: the
    root, and each image's name and revision."""
    from fsspec.core import url_to_fs

    if url.startswith(_FILE_URL):  # fsspec takes it for a path with a prefix
        url = unquote(url)
    # A cached listing would grow to all of the bucket.
    files, path = url_to_fs(url, use_listings_cache=False)
    folder, _, name = path.rpartition("/")
    if _is_image(name) and not files.isdir(path):
        found = iter([(name, _revision(files.info(path)))])
        path = folder
    else:
        found = (
            (str(PurePosixPath(str(file["name"])).relative_to(path)), _revision(file))
            for file in _below(files, path)
        )
    root = str(files.unstrip_protocol(path))
    return _FILE_URL + quote(path) if root.startswith(_FILE_URL) else root, found


def _revision(file: Mapping[str, Any]) -> str:
    """What the listing says that changes with the file: its digest, or else its size and time."""
    stamps = (file.get(key) for key in _STAMPS)
    stamp = next((stamp for stamp in stamps if stamp), None)
    return f"{file.get('size')} {stamp}" if stamp else ""


def _below(files: Any, folder: str) -> Iterator[Mapping[str, Any]]:
    """The images, in a stable order, one folder at a time: only one's list is in memory."""
    folders = []
    for entry in sorted(files.ls(folder, detail=True), key=lambda entry: str(entry["name"])):
        name = str(entry["name"])
        if entry["type"] == "directory":
            # Some list a folder within itself; one that is a link may lead back.
            itself, link = name.rstrip("/") == folder.rstrip("/"), entry.get("islink")
            if not itself and not link and _is_visible(PurePosixPath(name).name):
                folders.append(name)
        elif _is_image(PurePosixPath(name).name):
            yield entry
    for name in folders:
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
            yield from _below(files, name)
