"""One whole stack for the end-to-end tests: five processes, trained weights, drawn people."""

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from deploy.local.stack import REPOSITORY, Ports, Stack
from passerby import Client
from passerby.contract import CONSUMER_GROUP, DEAD_LETTERS_STREAM, INGEST_STREAM
from passerby.v1 import queue_pb2
from tests.conftest import free_port, wait_until
from training.synthetic import generate

# A seed of its own: nobody here was seen in training.
SEED = 977
IMAGES = 1200


def make_stack(state: Path, **environment: str) -> Stack:
    ports = Ports(**{name: free_port() for name in Ports.__dataclass_fields__})
    return Stack(state, ports, {**os.environ, **environment})


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    state = tmp_path_factory.mktemp("stack")
    allowed = state / "allowed"
    allowed.mkdir()
    stack = make_stack(state, INDEXER_ALLOWED_ROOTS=str(allowed))
    stack.up()
    yield stack
    stack.down()


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(query=stack.query, redis_url=stack.redis_url) as client:
        yield client


@pytest.fixture
def redis(stack: Stack) -> Iterator[Redis]:
    with Redis.from_url(stack.redis_url) as redis:
        yield redis


@dataclass(frozen=True)
class People:
    """A held-out gallery in CUHK-PEDES's layout."""

    folder: Path
    records: list[dict[str, object]]

    def image(self, index: int) -> bytes:
        return (self.folder / "imgs" / str(self.records[index]["file_path"])).read_bytes()

    def data_set(self, folder: Path, records: list[dict[str, object]]) -> Path:
        """A data set in `folder` of those records alone."""
        (folder / "imgs").symlink_to(self.folder / "imgs")
        (folder / "reid_raw.json").write_text(json.dumps(records))
        return folder


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


@pytest.fixture
def gallery(request: pytest.FixtureRequest) -> str:
    """A gallery's name that no other test uses."""
    kept = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())
    return f"{kept[:50]}-{zlib.crc32(request.node.nodeid.encode())}"


def passerby(stack: Stack, *arguments: str) -> str:
    """Runs the command line as a user would; returns what it printed."""
    command = [str(Path(sys.executable).with_name("passerby")), *arguments]
    environment = {**os.environ, "PASSERBY_QUERY": stack.query, "REDIS_URL": stack.redis_url}
    done = subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def enqueue(redis: Redis, gallery: str, images: dict[str, bytes]) -> bytes:
    """Pushes one batch as any client would; returns the entry's id."""
    batch = queue_pb2.ImageBatch(gallery=gallery)
    for filename, data in images.items():
        batch.images.add(filename=filename, data=data)
    entry: bytes = redis.xadd(INGEST_STREAM, {"batch": batch.SerializeToString()})
    return entry


def wait_until_indexed(redis: Redis, timeout_s: float = 60) -> None:
    """Returns when nothing on the stream is unfinished."""
    wait_until(lambda: redis.xlen(INGEST_STREAM) == 0, "an empty queue", timeout_s)
    assert redis.xpending(INGEST_STREAM, CONSUMER_GROUP)["pending"] == 0


def dead_letters(redis: Redis, gallery: str) -> dict[str, str]:
    """Filename -> reason of one gallery's dead letters."""
    letters = [fields for _, fields in redis.xrange(DEAD_LETTERS_STREAM)]
    return {
        letter[b"filename"].decode(): letter[b"reason"].decode()
        for letter in letters
        if letter[b"gallery"].decode() == gallery
    }
