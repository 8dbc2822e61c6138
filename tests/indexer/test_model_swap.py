"""While a gallery moves to another model's vectors, every image is found."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.gallery.vectors import Row
from services.runtime.embedder_client import Embedding
from tests.support import faults
from tests.support.indexer import Stack
from tests.support.indexer_parts import Indexer, nearest
from tests.support.models import make_model
from tests.support.pictures import picture
from tests.support.processes import Service


@pytest.fixture(scope="module")
def new_embedder(
    model_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Prefers another model, and still serves the one that `embedder` has."""
    successor = tmp_path_factory.mktemp("model") / "successor"
    make_model(successor, seed=2)
    models = f"{successor},{model_directory}"
    service = Service("embedder", {"EMBEDDER_MODELS": models, "EMBEDDER_THREADS": "1"})
    service.start()
    yield service
    service.end()


async def test_an_image_pushed_while_the_model_is_swapped_is_found_at_once(
    indexer: Indexer, stack: Stack, new_embedder: Service
) -> None:
    stack.push("people", {"0.png": picture(0), "1.png": picture(1)})
    await indexer.index()
    old = await indexer.vectors.model_version("people")
    swapping = Indexer(stack, new_embedder.address)
    stack.push("people", {"1.png": picture(1), "2.png": picture(2)})
    await swapping.index()
    assert await swapping.vectors.model_version("people") == old
    assert stack.rows("people") == 3
    assert await nearest(indexer, "people", picture(2)) == "2.png"
    stack.push("people", {"0.png": picture(0)})
    await swapping.index()
    assert await swapping.vectors.model_version("people") != old
    assert stack.rows("people") == 3
    assert await nearest(swapping, "people", picture(2)) == "2.png"
    await swapping.close()


async def test_a_switch_that_comes_between_an_images_two_vectors_stays(
    indexer: Indexer, stack: Stack, new_embedder: Service
) -> None:
    stack.push("people", {"0.png": picture(0)})
    await indexer.index()
    old = await indexer.vectors.model_version("people")
    swapping = Indexer(stack, new_embedder.address)

    async def overtaken(gallery: str, *_: object) -> None:
        """Asked once the new vector is written; another batch ends the swap now."""
        (id_,) = await swapping.names.ids_of(gallery, ["0.png"])
        (result,) = await swapping.embedder.embed([picture(0)])
        assert id_ is not None
        assert isinstance(result, Embedding)
        await swapping.vectors.upsert(gallery, result.version, [Row(id_, result.vector)])
        await swapping.vectors.switch_when_complete(gallery, result.version)
        assert await swapping.vectors.model_version("people") == result.version

    faults.before(swapping.vectors.lacking, overtaken)
    stack.push("people", {"1.png": picture(1)})
    await swapping.index()
    assert await swapping.vectors.model_version("people") != old
    assert await nearest(swapping, "people", picture(1)) == "1.png"
    await swapping.close()


async def test_an_image_that_cannot_be_embedded_for_the_serving_model_waits_for_the_switch(
    indexer: Indexer, stack: Stack, new_embedder: Service
) -> None:
    ahead = Indexer(stack, new_embedder.address)
    stack.push("people", {"0.png": picture(0)})
    await ahead.index()
    stack.push("people", {"1.png": picture(1)})
    await indexer.index()  # whose embedder has never had that model
    assert stack.rows("people") == 1
    stack.push("people", {"0.png": picture(0)})
    await indexer.index()
    assert stack.rows("people") == 2
    assert await nearest(indexer, "people", picture(1)) == "1.png"
    assert stack.dead_letters() == []
    await ahead.close()


async def test_embedders_of_two_versions_side_by_side_hide_no_image(
    indexer: Indexer, stack: Stack, embedder: Service, new_embedder: Service
) -> None:
    """As in a rolling update: who embeds an image is left to chance."""
    mixed = Indexer(stack, f"ipv4:{embedder.address},{new_embedder.address}")
    for number in range(8):
        stack.push("people", {f"{number}.png": picture(number)})
        await mixed.index()
        assert stack.rows("people") == number + 1
    assert len(stack.milvus.list_collections()) == 2
    await mixed.close()
