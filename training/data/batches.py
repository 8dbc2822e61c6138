"""Batches for training: which images and captions stand together, and how they are varied."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from services.embedder.dcpl.vocabulary import Vocabulary
from training.data.augment import augment
from training.data.datasets import Dataset, InvalidDataset
from training.data.pixels import Pixels, decoded
from training.recipe import Recipe


class Batch(NamedTuple):
    """Caption i describes image i // captions_per_image."""

    images: Tensor
    """(images, height, width, 3) uint8, augmented"""
    words: Tensor
    """(images x captions_per_image, longest) int64, padded"""
    lengths: Tensor
    """(images x captions_per_image,) int64"""
    identities: Tensor
    """(images,) int64, counted from 0 over the training identities"""

    def to(self, device: torch.device) -> "Batch":
        """From pinned memory the copy overlaps with computing."""
        return Batch(*(part.to(device, non_blocking=True) for part in self))


@dataclass(frozen=True)
class TrainingImages:
    """The training split in memory."""

    pixels: Pixels
    captions: list[list[list[int]]]
    """Word ids of each caption of each image; none is empty."""
    identities: Tensor
    """(images,) int64, counted from 0"""
    vocabulary: Vocabulary

    @property
    def identity_count(self) -> int:
        return int(self.identities.max()) + 1


def load_training_images(
    dataset: Dataset, recipe: Recipe, vocabulary: Vocabulary, cache: Path
) -> TrainingImages:
    """Decode the training split; images without a single word to say are left out."""
    images = [
        image for image in dataset.split("train") if any(map(vocabulary.encode, image.captions))
    ]
    if not images:
        raise InvalidDataset(f"{dataset.name}: no image of the split train has a caption")
    pixels = decoded(
        dataset, images, height=recipe.image_height, width=recipe.image_width, cache=cache
    )
    encoded = [[vocabulary.encode(caption) for caption in image.captions] for image in images]
    identities = torch.tensor([image.identity for image in images])
    return TrainingImages(
        pixels=pixels,
        captions=[[words for words in captions if words] for captions in encoded],
        identities=torch.unique(identities, return_inverse=True)[1],
        vocabulary=vocabulary,
    )


def epoch_order(identities: Tensor, images_per_identity: int, generator: torch.Generator) -> Tensor:
    """A random order of all images in which up to `images_per_identity` of a person adjoin.

    identities: (images,) int64 -> (images,) int64. Cut into batches, each holds mostly
    different people, and some of them more than once.
    """
    shuffled = torch.randperm(len(identities), generator=generator)
    by_identity = shuffled[identities[shuffled].argsort(stable=True)]
    grouped = identities[by_identity]
    starts = torch.cat([torch.tensor([True]), grouped[1:] != grouped[:-1]]).nonzero()[:, 0]
    sizes = starts.diff(append=torch.tensor([len(grouped)]))
    position = torch.arange(len(grouped)) - starts.repeat_interleave(sizes)
    chunk = (position % images_per_identity == 0).cumsum(0) - 1
    place_of_chunk = torch.randperm(int(chunk[-1]) + 1, generator=generator)
    return by_identity[place_of_chunk[chunk].argsort(stable=True)]


def batches(
    data: TrainingImages,
    recipe: Recipe,
    epoch: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    loaders: int = 0,
) -> Iterator[Batch]:
    """The batches of one epoch; of each, this rank's share. What is left over is dropped.

    loaders: processes that prepare them, in the same order; 0 prepares each when it is asked for.
    Everything random follows from the recipe's seed, the epoch and the step alone, so a resumed
    run sees what the uninterrupted one would have seen.
    """
    steps = _Steps(data, recipe, epoch, rank, world_size)
    pinned = torch.cuda.is_available()
    # Forked, they share the decoded images; any other start would send each a copy of them all.
    start = "fork" if loaders else None
    return iter(
        DataLoader(
            steps,
            batch_size=None,
            num_workers=loaders,
            pin_memory=pinned,
            multiprocessing_context=start,
        )
    )


class _Steps(IterableDataset[Batch]):
    """One epoch's batches; of several loaders each prepares its share, and they take turns."""

    def __init__(
        self, data: TrainingImages, recipe: Recipe, epoch: int, rank: int, world_size: int
    ) -> None:
        self.data, self.recipe, self.epoch = data, recipe, epoch
        self.rank, self.world_size = rank, world_size
        self.order = epoch_order(
            data.identities, recipe.images_per_identity, generator_for(recipe.seed, epoch)
        )
        self.count = steps_per_epoch(len(self.order), recipe)

    def __iter__(self) -> Iterator[Batch]:
        loader = get_worker_info()
        first, stride = (loader.id, loader.num_workers) if loader else (0, 1)
        size = self.recipe.batch_size
        for step in range(first, self.count, stride):
            rows = self.order[step * size : (step + 1) * size][self.rank :: self.world_size]
            draws = generator_for(self.recipe.seed, self.epoch, step, self.rank)
            yield _batch(self.data, self.recipe, rows, draws)


def steps_per_epoch(images: int, recipe: Recipe) -> int:
    """Whole batches in an epoch; InvalidDataset if there is not even one."""
    if images < recipe.batch_size:
        raise InvalidDataset(
            f"the split train has {images} images, fewer than one batch of "
            f"{recipe.batch_size}; choose a smaller --batch-size"
        )
    return images // recipe.batch_size


def generator_for(*seeds: int) -> torch.Generator:
    """A generator that the given numbers determine, however close to each other they are."""
    mixed = 0
    for seed in seeds:
        mixed = (mixed * 6364136223846793005 + seed + 1442695040888963407) % 2**63
    return torch.Generator().manual_seed(mixed)


def _batch(data: TrainingImages, recipe: Recipe, rows: Tensor, generator: torch.Generator) -> Batch:
    chosen: list[list[int]] = []
    for row in rows.tolist():
        captions = data.captions[row]
        drawn = torch.randperm(len(captions), generator=generator).tolist()
        chosen += [captions[drawn[i % len(drawn)]] for i in range(recipe.captions_per_image)]
    words, lengths = pad(chosen, data.vocabulary.padding)
    dropped = torch.rand(words.shape, generator=generator) < recipe.word_dropout
    dropped &= words != data.vocabulary.padding
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return Batch(
        images=augment(torch.from_numpy(data.pixels[rows.numpy()]), recipe.augmentation, seed),
        words=words.masked_fill(dropped, data.vocabulary.unknown),
        lengths=lengths,
        identities=data.identities[rows],
    )


def pad(captions: Sequence[Sequence[int]], padding: int) -> tuple[Tensor, Tensor]:
    """Word ids -> (captions, longest) int64 and the lengths, (captions,) int64."""
    lengths = torch.tensor([len(caption) for caption in captions])
    words = [torch.tensor(caption) for caption in captions]
    return pad_sequence(words, batch_first=True, padding_value=padding), lengths
