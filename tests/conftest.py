"""Real servers for the tests, one of each a session: Redis and Milvus (Lite's server)."""

import zlib
from collections.abc import Iterator

import pytest
from redis import Redis

from tests.support.stores import empty_milvus, milvus_running, redis_running


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_running(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with milvus_running(tmp_path_factory.mktemp("milvus") / "data") as uri:
        yield uri


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of an empty Redis."""
    with Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture
def milvus_uri(milvus_server: str) -> str:
    """The URI of an empty Milvus."""
    empty_milvus(milvus_server)
    return milvus_server


@pytest.fixture
def gallery(request: pytest.FixtureRequest) -> str:
    """A gallery's name that no other test uses."""
    kept = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())
    return f"{kept[:50]}-{zlib.crc32(request.node.nodeid.encode())}"
