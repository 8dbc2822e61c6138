"""The same queries through a running stack, so that what the index loses is seen."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from passerby import Client
from training.data.datasets import InvalidDataset
from training.evaluation.evaluate import EmbeddedSplit

DEPTH = 12
"""Hits asked for: the first page."""
SEARCHES_AT_ONCE = 8


def evaluate_deployed(embedded: EmbeddedSplit, *, query: str, gallery: str) -> Tensor:
    """Rank of the first right image for each caption of the split, DEPTH + 1 if not among DEPTH.

    query: address of the query service; gallery: holds exactly the split's images, under the
    names that the data set gives them. Returns (captions,) int64.
    Raises InvalidDataset if the gallery holds something else.
    """
    identity_of = {image.file: image.identity for image in embedded.images}
    with Client(query=query) as client:
        indexed = client.gallery(gallery).count
        if indexed != len(identity_of):
            raise InvalidDataset(
                f"the gallery {gallery} holds {indexed:,} images and the split "
                f"{len(identity_of):,}; push exactly the split (`passerby push`), or choose the "
                f"--split that was pushed"
            )

        def first_rank(caption: str, identity: int) -> int:
            hits = client.search(caption, gallery=gallery, top_k=DEPTH)
            return _first_rank([identity_of.get(hit.filename) for hit in hits], identity, gallery)

        with ThreadPoolExecutor(SEARCHES_AT_ONCE) as threads:
            ranks = threads.map(first_rank, embedded.captions, embedded.caption_identities.tolist())
            return torch.tensor(list(ranks))


def _first_rank(found: Sequence[int | None], identity: int, gallery: str) -> int:
    if None in found:
        raise InvalidDataset(f"the gallery {gallery} holds images that are not of this split")
    return found.index(identity) + 1 if identity in found else DEPTH + 1
