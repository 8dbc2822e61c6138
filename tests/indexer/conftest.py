"""A real embedder with tiny random weights, and indexers as the processes that they are."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.support.indexer import Stack
from tests.support.indexer_parts import Indexer
from tests.support.models import make_model
from tests.support.processes import Service
from tests.support.stores import milvus_client


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "random"
    make_model(directory, seed=1)
    return directory


@pytest.fixture(scope="session")
def embedder(model_directory: Path) -> Iterator[Service]:
    service = Service(
        "embedder", {"EMBEDDER_MODELS": str(model_directory), "EMBEDDER_THREADS": "1"}
    )
    service.start()
    yield service
    service.end()


@pytest.fixture
def stack(redis_url: str, milvus_uri: str, embedder: Service, tmp_path: Path) -> Iterator[Stack]:
    (tmp_path / "allowed").mkdir()
    indexer = Service(
        "indexer",
        {
            "REDIS_URL": redis_url,
            "MILVUS_URI": milvus_uri,
            "EMBEDDER_ADDRESS": embedder.address,
            "INDEXER_ALLOWED_ROOTS": str(tmp_path / "allowed"),
            "IMAGES_URI": (tmp_path / "kept").as_uri(),
            "INDEXER_TAKEOVER_S": "2",
        },
    )
    milvus = milvus_client(milvus_uri)
    with Redis.from_url(redis_url) as redis:
        yield Stack(indexer, redis, milvus, tmp_path)
    milvus.close()
    indexer.kill()


@pytest.fixture
async def indexer(stack: Stack, embedder: Service) -> AsyncIterator[Indexer]:
    indexer = Indexer(stack, embedder.address)
    yield indexer
    await indexer.close()
