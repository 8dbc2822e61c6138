"""Vectors of a split and what retrieval with them reaches, text to image and image to text."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from services.embedder.dcpl.network import Dcpl
from services.embedder.dcpl.vocabulary import Vocabulary, tokenise
from training.data.augment import normalise
from training.data.batches import pad
from training.data.datasets import Dataset, InvalidDataset, PersonImage, Split
from training.data.pixels import Pixels, decoded
from training.evaluation import metrics
from training.evaluation.memory import keep_memory

EVALUATION_BATCH = {"cpu": 64, "cuda": 512}
"""Images or captions in one pass; a GPU wants them large, a processor's memory does not."""


@dataclass(frozen=True)
class EmbeddedSplit:
    """Each image once, each caption once; vectors float32 and L2-normalised, on the CPU."""

    images: Sequence[PersonImage]
    image_vectors: Tensor
    image_identities: Tensor
    captions: Sequence[str]
    caption_vectors: Tensor
    caption_identities: Tensor


@dataclass(frozen=True)
class Evaluation:
    """Both directions with intervals, and what chance would reach."""

    text_to_image: metrics.Retrieval
    text_to_image_interval: dict[str, metrics.Interval]
    image_to_text: metrics.Retrieval
    chance_rank_1: float
    chance_rank_10: float
    gallery_images: int
    identities: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def evaluate_split(
    network: Dcpl,
    vocabulary: Vocabulary,
    dataset: Dataset,
    split: Split,
    *,
    height: int,
    width: int,
    cache: Path,
    batch_size: int | None = None,
) -> tuple[EmbeddedSplit, Evaluation]:
    """Embed a split with a network in eval mode and measure retrieval in it.

    batch_size: None takes what suits the device; the figures are the same. On a processor the
    process keeps the memory that it frees from then on.
    """
    images, pixels = decoded_split(dataset, split, height=height, width=width, cache=cache)
    device = next(network.parameters()).device
    batch_size = batch_size or EVALUATION_BATCH[device.type]
    embedded = embed_split(network, vocabulary, images, pixels, batch_size=batch_size)
    return embedded, evaluate(embedded, device)


def decoded_split(
    dataset: Dataset, split: Split, *, height: int, width: int, cache: Path
) -> tuple[list[PersonImage], Pixels]:
    """A split's images and their pixels, as `decoded` returns them.

    Raises InvalidDataset if there is nothing to rank, to ask with, or to decode.
    """
    images = dataset.split(split)
    if not images:
        raise InvalidDataset(
            f"{dataset.image_root}: the split {split} is empty; give it images in the annotations"
        )
    if not any(tokenise(caption) for image in images for caption in image.captions):
        raise InvalidDataset(
            f"{dataset.image_root}: no image of the split {split} has a caption; nothing to "
            f"search for"
        )
    return images, decoded(dataset, images, height=height, width=width, cache=cache)


def embed_split(
    network: Dcpl,
    vocabulary: Vocabulary,
    images: Sequence[PersonImage],
    pixels: Pixels,
    *,
    batch_size: int,
) -> EmbeddedSplit:
    """pixels: (images, height, width, 3) uint8. Captions without any word are left out; at least
    one must have some.
    """
    said = [
        (caption, words, image.identity)
        for image in images
        for caption in image.captions
        if (words := vocabulary.encode(caption))
    ]
    return EmbeddedSplit(
        images=images,
        image_vectors=_embed_images(network, pixels, batch_size),
        image_identities=torch.tensor([image.identity for image in images]),
        captions=[caption for caption, _, _ in said],
        caption_vectors=_embed_captions(network, vocabulary, [w for _, w, _ in said], batch_size),
        caption_identities=torch.tensor([identity for _, _, identity in said]),
    )


def evaluate(embedded: EmbeddedSplit, device: torch.device) -> Evaluation:
    """Every figure of an embedded split, ranked on `device`; each image is in the gallery once."""
    images, captions = embedded.image_vectors.to(device), embedded.caption_vectors.to(device)
    of_images = embedded.image_identities.to(device)
    of_captions = embedded.caption_identities.to(device)
    by_text = metrics.rank_queries(captions, images, of_captions, of_images)
    described = torch.isin(of_images, of_captions)
    by_image = metrics.rank_queries(images[described], captions, of_images[described], of_captions)
    return Evaluation(
        text_to_image=metrics.summarise(by_text),
        text_to_image_interval=metrics.bootstrap(by_text, embedded.caption_identities),
        image_to_text=metrics.summarise(by_image),
        chance_rank_1=metrics.chance_rank(of_captions, of_images, 1),
        chance_rank_10=metrics.chance_rank(of_captions, of_images, 10),
        gallery_images=len(embedded.images),
        identities=len(torch.unique(embedded.image_identities)),
    )


@torch.inference_mode()
def _embed_images(network: Dcpl, pixels: Pixels, batch_size: int) -> Tensor:
    device = next(network.parameters()).device
    if device.type == "cpu":
        keep_memory()
    with precise_cudnn():
        vectors = [
            network.encode_images(normalise(torch.tensor(pixels[i : i + batch_size]).to(device)))
            for i in range(0, len(pixels), batch_size)
        ]
    return functional.normalize(torch.cat(vectors).float()).cpu()


@torch.inference_mode()
def _embed_captions(
    network: Dcpl, vocabulary: Vocabulary, captions: Sequence[Sequence[int]], batch_size: int
) -> Tensor:
    """Captions of like length share a batch; the order of the result is that of `captions`."""
    device = next(network.parameters()).device
    order = sorted(range(len(captions)), key=lambda i: len(captions[i]))
    vectors = []
    with precise_cudnn():
        for start in range(0, len(order), batch_size):
            chosen = [captions[i] for i in order[start : start + batch_size]]
            words, lengths = pad(chosen, vocabulary.padding)
            vectors.append(network.encode_captions(words.to(device), lengths.to(device)))
    together = functional.normalize(torch.cat(vectors).float()).cpu()
    return together[torch.tensor(order).argsort()]


def precise_cudnn() -> AbstractContextManager[None]:
    """cuDNN without TF32, which rounds to 10 bits, so that all devices find the same figures."""
    context: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, allow_tf32=False
    )
    return context
