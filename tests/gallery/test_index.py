"""Of people among identical images each is found, by its own vector and by leafing."""

from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from services.gallery.collection_names import CollectionName
from services.gallery.index import Index
from services.gallery.vectors import Row, Vectors
from tests.support.stores import milvus_client, milvus_running

PEOPLE, FRAMES = 1_200, 1_000
DIMENSION = 64


@pytest.fixture(scope="module")
def settling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Milvus that builds the index of all that it holds when told to."""
    with milvus_running(tmp_path_factory.mktemp("settling")) as uri:
        yield uri


@pytest.fixture
async def vectors(settling: str) -> AsyncIterator[Vectors]:
    vectors = Vectors(settling)
    yield vectors
    await vectors.close()


def people() -> NDArray[np.float32]:
    """(PEOPLE, DIMENSION): unit vectors, as those of a network not spread evenly."""
    random = np.random.default_rng(5)
    drawn = random.normal(size=(PEOPLE, DIMENSION)) + 2 * random.normal(size=DIMENSION)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


async def filled(vectors: Vectors, settling: str, gallery: str) -> NDArray[np.float32]:
    """Person n has id n, and the frames lie among them in the order of writing."""
    found = people()
    frame = found.mean(axis=0)
    frame /= np.linalg.norm(frame)
    rows = [Row(id_, vector, "street") for id_, vector in enumerate(found)]
    rows += [Row(PEOPLE + number, frame, "covered") for number in range(FRAMES)]
    shuffled = np.random.default_rng(6).permutation(len(rows))
    await vectors.upsert(gallery, "v1", [rows[place] for place in shuffled])
    client = milvus_client(settling)
    client.flush(str(CollectionName(gallery, "v1")))
    client.close()
    return found


async def test_people_among_identical_frames_are_found_by_their_own_vector(
    vectors: Vectors, settling: str
) -> None:
    found = await filled(vectors, settling, "own")
    lost = 0
    for id_ in range(0, PEOPLE, 10):
        hits = await vectors.search("own", found[id_], top_k=12)
        lost += id_ not in {hit.id for hit in hits}
    assert lost == 0


@pytest.mark.parametrize("page", [100, 1000])
async def test_leafing_shows_every_person_once(vectors: Vectors, settling: str, page: int) -> None:
    gallery = f"leafed-{page}"
    found = await filled(vectors, settling, gallery)
    seen: list[int] = []
    for offset in range(0, PEOPLE + FRAMES, page):
        hits = await vectors.search(gallery, -found[0], page, offset)
        assert len(hits) == min(page, PEOPLE + FRAMES - offset)
        seen += [hit.id for hit in hits]
    # Of images with the same score it is for Milvus to choose which comes on which page.
    assert sorted(id_ for id_ in seen if id_ < PEOPLE) == list(range(PEOPLE))


async def test_as_many_as_are_asked_for_of_a_camera(vectors: Vectors, settling: str) -> None:
    found = await filled(vectors, settling, "one-camera")
    hits = await vectors.search("one-camera", found[7], 1000, expression='camera == "covered"')
    assert len(hits) == FRAMES


def test_a_collection_of_any_index_is_asked_for_enough() -> None:
    index = Index(search_params={"nprobe": 8, "ef": 200})
    assert index.searching(12, exact=False) == {"nprobe": 8, "ef": 200}
    assert index.searching(1000, exact=True) == {"nprobe": 65_536, "ef": 1000}
