"""A whole data set of drawn people in CUHK-PEDES's layout: imgs/ and reid_raw.json."""

import json
import math
import os
import string
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any, Literal

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

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class _IdentityJob:
    """All images of one identity: what a worker draws without knowing the others."""

    directory: Path
    seed: int
    identity: int
    """From 1."""
    person: Person
    images: int
    split: Split
    distinguishing: frozenset[str]
    """Attributes that tell the person from lookalikes; images show and captions name them."""


def generate(
    directory: Path,
    images: int,
    seed: int,
    workers: int | None = None,
    hard: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `images` images of a quarter as many people below `directory`.

    The files depend on images, seed and hard only, not on the workers (processes; None: as many
    as there are processors). Of the people 80 % are for training, 8 % for validation and 12 %
    for the test; hard=True writes a test split only, of groups of six people who differ in one
    or two attributes. reid_raw.json is written last: where it is, the data set is whole.
    on_progress is called with the images written so far and the images wanted.

    Raises ValueError for less than one image.
    """
    if images < 1:
        raise ValueError(f"images: {images} is not a number of images; ask for 1 or more")
    jobs = list(_jobs(directory, images, seed, hard=hard))
    for number in range(1, CAMERAS + 1):
        (directory / "imgs" / f"cam{number}").mkdir(parents=True, exist_ok=True)
    (directory / "reid_raw.json").unlink(missing_ok=True)
    annotations: list[dict[str, Any]] = []
    # Closed at once when interrupted, or the workers would draw on to the end.
    with closing(_drawn(jobs, workers or os.cpu_count() or 1)) as drawn:
        for entries in drawn:
            annotations += entries
            if on_progress is not None:
                on_progress(len(annotations), images)
    unfinished = directory / "reid_raw.json.part"
    unfinished.write_text(json.dumps(annotations, indent=1), encoding="utf-8")
    unfinished.replace(directory / "reid_raw.json")


def _drawn(jobs: list[_IdentityJob], workers: int) -> Generator[list[dict[str, Any]], None, None]:
    if workers == 1:
        yield from map(_draw_identity, jobs)
        return
    # Spawned, not forked: the caller may have threads and open channels.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_draw_identity, jobs, chunksize=8)


def _jobs(directory: Path, images: int, seed: int, *, hard: bool) -> Iterator[_IdentityJob]:
    identities = math.ceil(images / IMAGES_PER_IDENTITY)
    people: Iterator[tuple[Person, frozenset[str]]]
    if hard:
        people = _lookalikes(identities, seed)
    else:
        people = ((person, frozenset()) for person in cast(identities, seed))
    for index, (person, distinguishing) in enumerate(people):
        yield _IdentityJob(
            directory=directory,
            seed=seed,
            identity=index + 1,
            person=person,
            images=min(IMAGES_PER_IDENTITY, images - index * IMAGES_PER_IDENTITY),
            split="test" if hard else _split(index, identities),
            distinguishing=distinguishing,
        )


def _lookalikes(count: int, seed: int) -> Iterator[tuple[Person, frozenset[str]]]:
    rng = Random(f"doubles {seed}")  # noqa: S311
    made = 0
    while made < count:
        group, distinguishing = lookalikes(rng)
        for person in group[: count - made]:
            yield person, distinguishing
        made += len(group)


def _split(index: int, identities: int) -> Split:
    """The last identities are the test, those before them the validation."""
    test = max(1, round(_SHARES["test"] * identities))
    val = max(1, round(_SHARES["val"] * identities))
    if index >= identities - test:
        return "test"
    return "val" if index >= identities - test - val else "train"


def _draw_identity(job: _IdentityJob) -> list[dict[str, Any]]:
    """Write one identity's images; returns their entries for reid_raw.json."""
    rng = Random(f"sitting {job.seed} {job.identity}")  # noqa: S311
    seen_by = rng.sample(cameras(job.seed), k=job.images)
    entries = []
    for number, (camera, view) in enumerate(zip(seen_by, _views(job, rng), strict=True)):
        file = f"cam{camera.number}/{job.identity:07}_c{camera.number}_{number}.jpg"
        photo = take_photo(job.person, view, camera, rng)
        (job.directory / "imgs" / file).write_bytes(photo)
        captions = [
            describe(job.person, view, rng, job.distinguishing) for _ in range(_CAPTIONS_PER_IMAGE)
        ]
        entries.append(
            {
                "split": job.split,
                "id": job.identity,
                "file_path": file,
                "captions": captions,
                "processed_tokens": [_tokens(caption) for caption in captions],
            }
        )
    return entries


def _tokens(caption: str) -> list[str]:
    """The words as CUHK-PEDES lists them: lower case, without punctuation."""
    return caption.translate(_NO_PUNCTUATION).lower().split()


def _views(job: _IdentityJob, rng: Random) -> list[View]:
    """A view for each image, from different sides; all show what distinguishes the person."""
    facings: list[Facing] = ["front", "front", "back", "left", "right"]
    rng.shuffle(facings)
    views: list[View] = []
    while len(views) < job.images:
        view = draw_view(rng, facings[len(views)])
        if job.distinguishing & hidden_parts(view):
            facings.append(facings.pop(len(views)))
        else:
            views.append(view)
    return views
