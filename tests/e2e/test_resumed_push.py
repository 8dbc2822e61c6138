"""A push that is cut off and repeated: only the rest is pushed, and nothing is lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from deploy.local.stack import REPOSITORY, Stack
from passerby import Client
from tests.support.stack import People, passerby

IMAGES = 200
# The first batch is queued, the second is full, and the third is being read.
KILLED_AT = 130
ENTRIES = 4
PUSH_AND_DIE = f"""
import os, signal, sys
from pathlib import Path
from passerby import Client, Image, resume

def images():
    for number, file in enumerate(sorted(Path(sys.argv[1]).iterdir())):
        if number == {KILLED_AT}:
            os.kill(os.getpid(), signal.SIGKILL)
        yield Image(file.name, file.read_bytes())

resume.WINDOW_IMAGES = 64
Client().push(images(), gallery=sys.argv[2])
"""


@pytest.fixture
def folder(people: People, tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(IMAGES):
        (folder / f"{number:03}.jpg").write_bytes(people.image(number))
    return folder


def entries_ever(redis: Redis) -> int:
    """How many entries were added to any stream since Redis started."""
    calls: int = redis.info("commandstats")["cmdstat_xadd"]["calls"]
    return calls


def test_a_killed_push_goes_on_where_it_was(
    stack: Stack, client: Client, redis: Redis, folder: Path, gallery: str
) -> None:
    redis.xdel("none", redis.xadd("none", {"so": "that the counter exists"}))
    before = entries_ever(redis)
    killed = subprocess.run(
        [sys.executable, "-c", PUSH_AND_DIE, folder, gallery],
        cwd=REPOSITORY,
        env={**os.environ, "PASSERBY_QUERY": stack.query, "REDIS_URL": stack.redis_url},
    )
    assert killed.returncode == -signal.SIGKILL
    assert entries_ever(redis) - before == 1

    push = ("push", str(folder), "--gallery", gallery)
    said = passerby(stack, *push)
    assert "64 images were searchable with the same content: not pushed." in said
    assert f"{IMAGES} images are searchable in {gallery}." in said
    assert entries_ever(redis) - before == ENTRIES
    assert client.gallery(gallery).count == IMAGES

    # What was deleted, or has other bytes, is pushed again, and nothing else.
    client.delete(gallery=gallery, filenames=["000.jpg"])
    (folder / "001.jpg").write_bytes((folder / "002.jpg").read_bytes())
    assert f"{IMAGES - 2} images were searchable" in passerby(stack, *push)
    assert client.gallery(gallery).count == IMAGES
    first, second = client.search(image=(folder / "002.jpg").read_bytes(), gallery=gallery)[:2]
    assert {first.filename, second.filename} == {"001.jpg", "002.jpg"}
    assert f"{IMAGES} images were searchable" in passerby(stack, *push)
    before = entries_ever(redis)
    assert "not pushed" not in passerby(stack, *push, "--again")
    assert entries_ever(redis) - before == ENTRIES
