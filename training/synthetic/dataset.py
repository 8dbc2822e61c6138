"""A whole data set of drawn people in CUHK-PEDES's layout: imgs/ and reid_raw.json."""

import json
import math
import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any, Literal

from services.embedder.dcpl.vocabulary import tokenise
from training.synthetic.camera import CAMERAS, cameras
from training.synthetic.captions import describe
from training.synthetic.person import Person
from training.synthetic.photo import take_photo
from training.synthetic.view import Facing, View, draw_view, hidden_parts
from training.synthetic.wardrobe import cast, lookalikes

IMAGES_PER_IDENTITY = 4
_CAPTIONS_PER_IMAGE = 2
_SHARES = {"val": 0.08, "test": 0.12}
"""Of the identities; the others are for training."""

Split = Literal["train", "val", "test"]
Progress = Callable[[int, int], None]
"""Called with the images written so far and the images wanted."""


@dataclass(frozen=True)
class _Sitting:
    """All images of one identity: what a worker draws without knowing the others."""

    directory: Path
    seed: int
    identity: int
    """From 1."""
    person: Person
    images: int
    split: Split
    telling: frozenset[str]
    """What tells the person from near doubles: seen in each image, named in each caption."""


def generate(
    directory: Path,
    images: int,
    seed: int,
    workers: int | None = None,
    hard: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write `images` images of a quarter as many people below `directory`.

    The files depend on images, seed and hard only, not on the workers (processes; None: as many
    as there are processors). Of the people 80 % are for training, 8 % for validation and 12 %
    for the test; hard=True writes a test split only, of groups of six people who differ in one
    or two attributes. reid_raw.json is written last: where it is, the data set is whole.

    Raises ValueError for less than one image.
    """
    if images < 1:
        raise ValueError(f"images: {images} is not a number of images; ask for 1 or more")
    sittings = list(_sittings(directory, images, seed, hard=hard))
    for number in range(1, CAMERAS + 1):
        (directory / "imgs" / f"cam{number}").mkdir(parents=True, exist_ok=True)
    (directory / "reid_raw.json").unlink(missing_ok=True)
    annotations: list[dict[str, Any]] = []
    # Closed at once when interrupted, or the workers would draw on to the end.
    with closing(_drawn(sittings, workers or os.cpu_count() or 1)) as drawn:
        for entries in drawn:
            annotations += entries
            if progress is not None:
                progress(len(annotations), images)
    unfinished = directory / "reid_raw.json.part"
    unfinished.write_text(json.dumps(annotations, indent=1), encoding="utf-8")
    unfinished.replace(directory / "reid_raw.json")


def _drawn(sittings: list[_Sitting], workers: int) -> Generator[list[dict[str, Any]], None, None]:
    if workers == 1:
        yield from map(_draw_sitting, sittings)
        return
    # Spawned, not forked: the caller may have threads and open channels.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_draw_sitting, sittings, chunksize=8)


def _sittings(directory: Path, images: int, seed: int, *, hard: bool) -> Iterator[_Sitting]:
    identities = math.ceil(images / IMAGES_PER_IDENTITY)
    people: Iterator[tuple[Person, frozenset[str]]]
    if hard:
        people = _doubles(identities, seed)
    else:
        people = ((person, frozenset()) for person in cast(identities, seed))
    for index, (person, telling) in enumerate(people):
        yield _Sitting(
            directory=directory,
            seed=seed,
            identity=index + 1,
            person=person,
            images=min(IMAGES_PER_IDENTITY, images - index * IMAGES_PER_IDENTITY),
            split="test" if hard else _split(index, identities),
            telling=telling,
        )


def _doubles(count: int, seed: int) -> Iterator[tuple[Person, frozenset[str]]]:
    rng = Random(f"doubles {seed}")  # noqa: S311
    made = 0
    while made < count:
        group, telling = lookalikes(rng)
        for person in group[: count - made]:
            yield person, telling
        made += len(group)


def _split(index: int, identities: int) -> Split:
    """The last identities are the test, those before them the validation."""
    test = max(1, round(_SHARES["test"] * identities))
    val = max(1, round(_SHARES["val"] * identities))
    if index >= identities - test:
        return "test"
    return "val" if index >= identities - test - val else "train"


def _draw_sitting(sitting: _Sitting) -> list[dict[str, Any]]:
    """Write one identity's images; returns their entries for reid_raw.json."""
    rng = Random(f"sitting {sitting.seed} {sitting.identity}")  # noqa: S311
    here = rng.sample(cameras(sitting.seed), k=sitting.images)
    entries = []
    for number, (camera, view) in enumerate(zip(here, _views(sitting, rng), strict=True)):
        file = f"cam{camera.number}/{sitting.identity:07}_c{camera.number}_{number}.jpg"
        photo = take_photo(sitting.person, view, camera, rng)
        (sitting.directory / "imgs" / file).write_bytes(photo)
        captions = [
            describe(sitting.person, view, rng, sitting.telling) for _ in range(_CAPTIONS_PER_IMAGE)
        ]
        entries.append(
            {
                "split": sitting.split,
                "id": sitting.identity,
                "file_path": file,
                "captions": captions,
                "processed_tokens": [tokenise(caption) for caption in captions],
            }
        )
    return entries


def _views(sitting: _Sitting, rng: Random) -> list[View]:
    """A view for each image, from different sides; all show what is telling."""
    facings: list[Facing] = ["front", "front", "back", "left", "right"]
    rng.shuffle(facings)
    views: list[View] = []
    while len(views) < sitting.images:
        view = draw_view(rng, facings[len(views)])
        if sitting.telling & hidden_parts(view):
            facings.append(facings.pop(len(views)))
        else:
            views.append(view)
    return views
