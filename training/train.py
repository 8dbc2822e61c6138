"""The training run: from a data set and a recipe to a model directory; it can resume exactly."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from services.embedder.dcpl.network import Dcpl
from services.embedder.dcpl.vocabulary import Vocabulary
from training.data.batches import (
    TrainingImages,
    batches,
    generator_for,
    load_training_images,
    steps_per_epoch,
)
from training.data.datasets import Dataset
from training.distributed import DistributedContext
from training.evaluation.evaluate import decoded_split
from training.learner import Learner
from training.recipe import Recipe
from training.run import Epoch, Run


@dataclass(frozen=True)
class Callbacks:
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
    context: DistributedContext,
    start: Path | None = None,
    prepare_network: Callable[[Dcpl], None] = lambda _: None,
    callbacks: Callbacks = Callbacks(),
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
    words = [caption for image in dataset.split("train") for caption in image.captions]
    vocabulary = Vocabulary.build(words, recipe.minimum_word_count)
    architecture = replace(recipe.architecture, vocabulary_size=len(vocabulary))
    recipe = replace(recipe, architecture=architecture)
    run = Run(directory, dataset, recipe, vocabulary, name, notes, licence)
    data = load_training_images(dataset, recipe, vocabulary, run.pixels)
    if context.is_first:  # or what cannot be decoded would stop the run after its first epoch
        height, width = recipe.image_height, recipe.image_width
        decoded_split(dataset, "val", height=height, width=width, cache=run.pixels)

    torch.manual_seed(recipe.seed)
    network = Dcpl(architecture)
    prepare_network(network)
    learner = Learner(network, recipe, data.identity_count, context)
    state = run.begin(learner, start)
    while not state.is_over(recipe):
        losses, speed = _train_epoch(learner, data, recipe, state.epochs_done, context, callbacks)
        state.epochs_done += 1
        if context.is_first:
            callbacks.epoch(run.finish_epoch(learner, state, losses, speed))
        state.best_epoch = context.agree(state.best_epoch)
    return run.model


def _train_epoch(
    learner: Learner,
    data: TrainingImages,
    recipe: Recipe,
    epoch: int,
    context: DistributedContext,
    callbacks: Callbacks,
) -> tuple[dict[str, float], float]:
    """One pass over the images; mean losses and images/s."""
    steps = steps_per_epoch(len(data.identities), recipe)
    sums: dict[str, float] = {}
    started = time.monotonic()
    prepared = batches(
        data,
        recipe,
        epoch,
        rank=context.rank,
        world_size=context.world_size,
        loaders=context.loaders,
    )
    for step, batch in enumerate(prepared):
        # Dropout draws from the global generator: seeding it here is what makes resuming exact.
        torch.manual_seed(generator_for(recipe.seed, epoch, step, context.rank, 1).initial_seed())
        losses = learner.step(batch, epoch + step / steps)
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + loss / steps
        callbacks.step(recipe.batch_size, losses)
    return sums, steps * recipe.batch_size / (time.monotonic() - started)
