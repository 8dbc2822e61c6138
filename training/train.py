"""The training run: from a data set and a recipe to a model directory; it can resume exactly.

A run's directory holds checkpoint.pt (all that is needed to go on), history.json (a row for each
epoch), model/ (the best epoch's weights), tensorboard/ and pixels/ (the decoded images).
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from services.embedder.dcpl.model_directory import ModelCard, Precision, save_model
from services.embedder.dcpl.network import Dcpl
from services.embedder.dcpl.vocabulary import Vocabulary
from training.checkpoint import (
    UnusableCheckpoint,
    load_checkpoint,
    save_checkpoint,
)
from training.data.batches import (
    TrainingImages,
    batches,
    generator_for,
    load_training_images,
    steps_per_epoch,
)
from training.data.datasets import Dataset, digest
from training.evaluation.evaluate import decoded_split, evaluate_split
from training.learner import Learner, Place
from training.recipe import Recipe

LOG = logging.getLogger(__name__)
HISTORY = "history.json"
TRAINING_IMAGES = "list of training images"
SAVED_AS: Precision = "float16"
"""Of the model, not of the checkpoint; half the file, and the figures are those of the file."""


@dataclass(frozen=True)
class Epoch:
    """One row of the history. The validation figures are those of the averaged weights."""

    number: int
    losses: dict[str, float]
    images_per_second: float
    validation: dict[str, float]


@dataclass
class Progress:
    """Where a run stands; part of the checkpoint."""

    epochs_done: int = 0
    best_rank_1: float = -1.0
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    def is_over(self, recipe: Recipe) -> bool:
        # While the rate is held, a plateau is no end: the gain of its fall is still to come.
        falls = recipe.hold * recipe.epochs if recipe.hold < 1 else 0
        stale = self.epochs_done - max(self.best_epoch, falls)
        return self.epochs_done >= recipe.epochs or 0 < recipe.patience <= stale


@dataclass(frozen=True)
class Watch:
    """What a caller wants to hear while it runs."""

    step: Callable[[int, dict[str, float]], None] = lambda *_: None
    """After each step: the images in it over all processes, and the losses."""
    epoch: Callable[[Epoch], None] = lambda *_: None


def train(
    dataset: Dataset,
    recipe: Recipe,
    directory: Path,
    *,
    name: str,
    notes: str = "",
    licence: str = "",
    place: Place,
    start: Path | None = None,
    prepare_network: Callable[[Dcpl], None] = lambda _: None,
    watch: Watch = Watch(),
) -> Path:
    """Train, or go on where the checkpoint in `directory` stands; returns the model directory.

    dataset: with a split val, by which the epoch is chosen; the split test has no part in it.
    name, notes, licence: for the model's card.
    start: the directory of a finished run of the same data and architecture, whose weights this
    one begins with, for example after training on smaller images.
    prepare_network is called once on the fresh network, to load a pretrained tower.
    Raises TrainingDiverged, UnusableCheckpoint and InvalidDataset, whose messages say what to do.
    """
    directory.mkdir(parents=True, exist_ok=True)
    cache, checkpoint = directory / "pixels", directory / "checkpoint.pt"
    vocabulary = Vocabulary.build(
        [caption for image in dataset.split("train") for caption in image.captions],
        recipe.minimum_word_count,
    )
    architecture = replace(recipe.architecture, vocabulary_size=len(vocabulary))
    recipe = replace(recipe, architecture=architecture)
    identity = _identity_of(recipe, vocabulary, dataset)
    data = load_training_images(dataset, recipe, vocabulary, cache)
    height, width = recipe.image_height, recipe.image_width
    if place.is_first:  # or what cannot be decoded would stop the run after its first epoch
        decoded_split(dataset, "val", height=height, width=width, cache=cache)

    torch.manual_seed(recipe.seed)
    network = Dcpl(architecture)
    prepare_network(network)
    learner = Learner(network, recipe, data.identity_count, place)
    progress = Progress()
    if checkpoint.exists():
        progress = resume(checkpoint, learner, identity)
    elif start is not None:
        begin_with(start / "checkpoint.pt", learner, identity)

    while not progress.is_over(recipe):
        number = progress.epochs_done + 1
        losses, speed = _train_epoch(learner, data, recipe, number - 1, place, watch)
        progress.epochs_done = number
        if place.is_first:
            _, evaluation = evaluate_split(
                learner.model,
                vocabulary,
                dataset,
                "val",
                height=height,
                width=width,
                cache=cache,
            )
            epoch = Epoch(number, losses, speed, evaluation.text_to_image.as_dict())
            progress.history.append(asdict(epoch))
            if evaluation.text_to_image.rank_1 > progress.best_rank_1:
                progress.best_rank_1 = evaluation.text_to_image.rank_1
                progress.best_epoch = number
                card = _card(name, notes, licence, recipe, vocabulary, dataset, epoch)
                save_model(directory / "model", learner.model, card, precision=SAVED_AS)
            _record(directory, progress, epoch)
            state = {"progress": asdict(progress), "learner": learner.state_dict()}
            save_checkpoint(checkpoint, state | identity)
            watch.epoch(epoch)
        progress.best_epoch = place.agree(progress.best_epoch)
    return directory / "model"


def _train_epoch(
    learner: Learner,
    data: TrainingImages,
    recipe: Recipe,
    epoch: int,
    place: Place,
    watch: Watch,
) -> tuple[dict[str, float], float]:
    """One pass over the images; mean losses and images/s."""
    steps = steps_per_epoch(len(data.identities), recipe)
    sums: dict[str, float] = {}
    started = time.monotonic()
    prepared = batches(
        data, recipe, epoch, rank=place.rank, ranks=place.ranks, workers=place.workers
    )
    for step, batch in enumerate(prepared):
        # Dropout draws from the global generator: seeding it here is what makes resuming exact.
        torch.manual_seed(generator_for(recipe.seed, epoch, step, place.rank, 1).initial_seed())
        losses = learner.step(batch, epoch + step / steps)
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + loss / steps
        watch.step(recipe.batch_size, losses)
    return sums, steps * recipe.batch_size / (time.monotonic() - started)


def resume(checkpoint: Path, learner: Learner, identity: dict[str, str]) -> Progress:
    """Put the learner where the checkpoint stands. One of another identity is refused."""
    state = load_checkpoint(checkpoint)
    remedy = "use the same command and data as at the start, or another output directory"
    _refuse_another(checkpoint, state, identity, remedy)
    try:
        learner.load_state_dict(state["learner"])
    except RuntimeError as error:
        raise UnusableCheckpoint(f"{checkpoint}: does not fit this data; {remedy}") from error
    return Progress(**state["progress"])


def begin_with(checkpoint: Path, learner: Learner, identity: dict[str, str]) -> None:
    """Take the weights of another run. The recipe may be another one; another vocabulary,
    architecture or list of training images, whose people the class weights belong to, is refused.
    """
    state = load_checkpoint(checkpoint)
    needed = {part: value for part, value in identity.items() if part != "recipe"}
    _refuse_another(checkpoint, state, needed, "start from a run on the same data")
    try:
        learner.load_weights(state["learner"])
    except RuntimeError as error:
        raise UnusableCheckpoint(
            f"{checkpoint}: does not fit this architecture or data set; start from a run of the "
            f"same preset, image tower and data ({error})"
        ) from error


def _refuse_another(
    checkpoint: Path, state: dict[str, Any], identity: dict[str, str], remedy: str
) -> None:
    for part, wanted in identity.items():
        if part == TRAINING_IMAGES and part not in state:
            LOG.warning("%s: is an old one, which does not say its %s", checkpoint, part)
        elif state.get(part) != wanted:
            raise UnusableCheckpoint(f"{checkpoint}: was made with another {part}; {remedy}")


def _identity_of(recipe: Recipe, vocabulary: Vocabulary, dataset: Dataset) -> dict[str, str]:
    """What a checkpoint must share with the run that goes on from it."""
    return {
        "vocabulary": json.dumps(vocabulary.to_json(), sort_keys=True),
        "recipe": json.dumps(asdict(recipe), sort_keys=True),
        TRAINING_IMAGES: digest(dataset.split("train")),
    }


def _card(
    name: str,
    notes: str,
    licence: str,
    recipe: Recipe,
    vocabulary: Vocabulary,
    dataset: Dataset,
    epoch: Epoch,
) -> ModelCard:
    images = dataset.split("train")
    identities = len({image.identity for image in images})
    training_data = (
        f"{len(images):,} images of {identities:,} people, the split train of "
        f"{dataset.image_root.resolve().parent.name} (layout: {dataset.name})"
    )
    if dataset.held_out:
        people = len({image.identity for image in dataset.split("val")})
        training_data += f" without {people:,} people, held out for validation"
    return ModelCard(
        name=name,
        training_data=training_data,
        notes=notes,
        licence=licence,
        metrics={
            "epoch": epoch.number,
            "validation": {name: round(value, 2) for name, value in epoch.validation.items()},
        },
        architecture=recipe.architecture,
        image_height=recipe.image_height,
        image_width=recipe.image_width,
        vocabulary=vocabulary,
    )


def read_history(directory: Path) -> list[dict[str, Any]]:
    """The rows of a run's epochs, each an Epoch as a dict."""
    rows: list[dict[str, Any]] = json.loads((directory / HISTORY).read_text())
    return rows


def _record(directory: Path, progress: Progress, epoch: Epoch) -> None:
    (directory / HISTORY).write_text(json.dumps(progress.history, indent=1) + "\n")
    with SummaryWriter(directory / "tensorboard") as board:
        for name, loss in epoch.losses.items():
            board.add_scalar(f"train/{name}", loss, epoch.number)
        for name, figure in epoch.validation.items():
            board.add_scalar(f"validation/{name}", figure, epoch.number)
        board.add_scalar("images_per_second", epoch.images_per_second, epoch.number)
