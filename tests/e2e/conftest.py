"""One whole stack for the end-to-end tests: five processes, trained weights, drawn people."""

import json
import os
from collections.abc import Iterator

import pytest
from redis import Redis

from deploy.local.stack import Stack
from passerby import Client
from tests.support.otlp import Receiver, receiving
from tests.support.processes import free_port
from tests.support.stack import People, make_stack, metrics_of, passerby
from training.synthetic.dataset import generate

# A seed of its own: nobody here was seen in training.
SEED = 977
IMAGES = 1200


@pytest.fixture(scope="session")
def collector() -> Iterator[Receiver]:
    """Receives the stack's traces."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, collector: Receiver) -> Iterator[Stack]:
    state = tmp_path_factory.mktemp("stack")
    allowed = state / "allowed"
    allowed.mkdir()
    stack = make_stack(
        state,
        INDEXER_ALLOWED_ROOTS=str(allowed),
        QUERY_METRICS_PORT=str(free_port()),
        EMBEDDER_METRICS_PORT=str(free_port()),
        INDEXER_METRICS_PORT=str(free_port()),
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        OTEL_BSP_SCHEDULE_DELAY="100",
    )
    stack.up()
    for service, metrics in metrics_of(stack).items():
        (state / f"{service}-at-the-start.metrics").write_text(metrics)
    yield stack
    stack.down()


@pytest.fixture(scope="session")
def metrics_at_the_start(stack: Stack) -> dict[str, str]:
    """Service -> what /metrics had when the services had just become ready."""
    return {
        service: (stack.state / f"{service}-at-the-start.metrics").read_text()
        for service in metrics_of(stack)
    }


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(query=stack.query, redis_url=stack.redis_url) as client:
        yield client


@pytest.fixture
def redis(stack: Stack) -> Iterator[Redis]:
    with Redis.from_url(stack.redis_url) as redis:
        yield redis


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    folder = tmp_path_factory.mktemp("people")
    generate(folder, images=IMAGES, seed=SEED, workers=os.cpu_count() or 1)
    return People(folder, json.loads((folder / "reid_raw.json").read_text()))


@pytest.fixture(scope="session")
def people_gallery(stack: Stack, people: People) -> str:
    """All of them in one gallery, pushed as a user would."""
    passerby(stack, "push", str(people.folder), "--gallery", "people")
    return "people"
