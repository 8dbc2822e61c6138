"""A caption finds its person, through the running services as well as in the bare network."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from deploy.local.stack import REPOSITORY, Stack
from passerby import Client
from services.embedder.dcpl.model_directory import load_model
from tests.support.stack import People
from training.data.datasets import read_dataset
from training.data.pixels import decoded
from training.evaluation.evaluate import embed_split
from training.evaluation.metrics import rank_queries

TOP = 12


def ranks_of_the_services(stack: Stack, gallery: str, people: People) -> torch.Tensor:
    """Rank of the first image of the right person for each caption, TOP + 1 if not among TOP."""
    identities = people.identities
    questions = [(record["captions"][0], record["id"]) for record in people.records]
    with Client(query=stack.query, redis_url=stack.redis_url) as client:

        def rank(question: tuple[str, int]) -> int:
            caption, identity = question
            hits = client.search(caption, gallery=gallery, top_k=TOP)
            names = [hit.filename for hit in hits]
            assert len(names) == len(set(names)) == TOP
            right = [identities[name] == identity for name in names]
            return right.index(True) + 1 if any(right) else TOP + 1

        with ThreadPoolExecutor(4) as threads:
            return torch.tensor(list(threads.map(rank, questions)))


def ranks_of_the_bare_network(people: People, cache: Path) -> torch.Tensor:
    network, card = load_model(REPOSITORY / "models" / "demo")
    dataset = read_dataset(people.folder)
    by_file = {
        image.file.removeprefix("imgs/"): image
        for split in ("train", "val", "test")
        for image in dataset.split(split)
    }
    # Each image with its first caption alone, as the services are asked.
    found = [by_file[record["file_path"]] for record in people.records]
    images = [replace(image, captions=image.captions[:1]) for image in found]
    pixels = decoded(dataset, images, height=card.image_height, width=card.image_width, cache=cache)
    embedded = embed_split(network, card.vocabulary, images, pixels, batch_size=64)
    results = rank_queries(
        embedded.caption_vectors,
        embedded.image_vectors,
        embedded.caption_identities,
        embedded.image_identities,
    )
    return results.first_rank


def test_the_services_find_people_as_well_as_the_bare_network_does(
    stack: Stack, people: People, people_gallery: str, tmp_path: Path
) -> None:
    services = ranks_of_the_services(stack, people_gallery, people)
    bare = ranks_of_the_bare_network(people, tmp_path)
    figures = {
        k: (100 * (services <= k).double().mean().item(), 100 * (bare <= k).double().mean().item())
        for k in (1, 5, 10, TOP)
    }
    print({f"rank_{k}": f"{got:.2f} services, {was:.2f} bare" for k, (got, was) in figures.items()})
    assert figures[TOP][0] >= 90
    for k, (got, was) in figures.items():
        assert abs(got - was) <= 0.5, f"Rank-{k}: {got:.2f} through the services, {was:.2f} bare"
