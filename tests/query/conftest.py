"""The query service as a process of its own, beside a real Redis, Milvus and embedder."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from redis import Redis

from tests.support.models import make_model
from tests.support.processes import wait_for_health
from tests.support.query import Model, QueryService, embedder_running, query_running


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    directory = tmp_path_factory.mktemp("model")
    return Model(directory, make_model(directory, seed=1).version)


@pytest.fixture(scope="session")
def embedder(model: Model) -> Iterator[str]:
    with embedder_running(model) as address:
        yield address


@pytest.fixture(scope="session")
def service(
    redis_server: str,
    milvus_server: str,
    embedder: str,
    model: Model,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[QueryService]:
    with Redis.from_url(redis_server) as redis:
        redis.flushall()  # what other folders' tests left on the queue
    environment = {
        "REDIS_URL": redis_server,
        "MILVUS_URI": milvus_server,
        "EMBEDDER_ADDRESS": embedder,
        "IMAGES_URI": tmp_path_factory.mktemp("images").as_uri(),
    }
    with query_running(environment, model.version) as service:
        wait_for_health(service.grpc, timeout_s=90)
        yield service


@pytest.fixture
def other_model(service: QueryService) -> QueryService:
    """Writes rows of a model that the embedder does not have."""
    return replace(service, version="0123456789ab")
