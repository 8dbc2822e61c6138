"""Decoded images of a split as one array on disk: decoded once, not in each epoch."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.embedder.images import InvalidImage, decode
from training.data.datasets import Dataset, InvalidDataset, PersonImage
from training.write_aside import written_aside

Pixels = NDArray[np.uint8]


def decoded(
    dataset: Dataset, images: Sequence[PersonImage], *, height: int, width: int, cache: Path
) -> Pixels:
    """The images as (images, height, width, 3) uint8, mapped from a file below `cache`.

    The same images at the same size are decoded once, and anew when a file has changed; the
    operating system keeps in memory what fits. Raises InvalidDataset naming the first image that
    cannot be read, and OSError where there is no room for them.
    """
    key = hashlib.sha256(f"{dataset.image_root.resolve()} {height} {width}".encode())
    for image in images:
        file = dataset.image_root / image.file
        try:
            found = file.stat()
        except OSError as error:
            raise _unreadable(file, error) from error
        key.update(f"{image.file}\0{found.st_size} {found.st_mtime_ns}\0".encode())
    path = cache / f"{key.hexdigest()[:16]}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        try:
            with written_aside(path) as unfinished:
                _decode_into(unfinished, dataset, images, height, width)
        except OSError as error:
            needed = len(images) * height * width * 3
            reason = f"{error.strerror}; the decoded images need {needed:,} bytes here"
            raise OSError(error.errno, reason, str(cache)) from error
    array: Pixels = np.load(path, mmap_mode="r")
    return array


def _decode_into(
    path: Path, dataset: Dataset, images: Sequence[PersonImage], height: int, width: int
) -> None:
    array = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint8, shape=(len(images), height, width, 3)
    )
    with path.open("r+b") as file:
        # A full disk is an error here; while the mapped file is filled it would kill the process.
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)

    def fill(row: int) -> None:
        file = dataset.image_root / images[row].file
        try:
            array[row] = decode(file.read_bytes(), height=height, width=width)
        except (OSError, InvalidImage) as error:
            raise _unreadable(file, error) from error

    with ThreadPoolExecutor() as threads:  # Pillow decodes outside the interpreter lock
        for _ in threads.map(fill, range(len(images))):
            pass
    array.flush()


def _unreadable(file: Path, error: Exception) -> InvalidDataset:
    return InvalidDataset(f"{file}: {error}; `prepare` lists all such images")
