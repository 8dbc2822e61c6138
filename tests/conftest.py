"""What a worker of the tests takes, and its real servers: one Redis, one Milvus (Lite's server)."""

import zlib
from collections.abc import Iterator

import pytest
from redis import Redis
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support.stores import empty_milvus, milvus_running, redis_running

# Their tests share servers that take longer to start than a better balance saves.
_TOGETHER = ("tests/e2e", "tests/indexer", "tests/query")
_WITH_A_STACK_OF_THEIR_OWN = tuple(
    f"tests/e2e/test_{name}.py" for name in ("outages", "readme", "rolling_restart")
)


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """A worker of `pytest -n 2` takes whole files, or whole folders whose tests share servers."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        if file in _WITH_A_STACK_OF_THEIR_OWN:
            return file
        return next((folder for folder in _TOGETHER if file.startswith(f"{folder}/")), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return _Scheduling(config, log)


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
