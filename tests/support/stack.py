"""A stack of the test's own, and what end-to-end tests do to one: push, wait, look, kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from deploy.local.stack import REPOSITORY, Ports, Stack
from deploy.local.supervisor import Program
from passerby.contract import CONSUMER_GROUP, DEAD_LETTERS_STREAM, INGEST_STREAM
from passerby.v1 import queue_pb2
from tests.support.processes import free_port, wait_until
from tests.support.stores import entries


def make_stack(state: Path, **environment: str) -> Stack:
    """Not started yet; on ports that are free."""
    ports = Ports(**{name: free_port() for name in Ports.__dataclass_fields__})
    return Stack(state, ports, {**os.environ, **environment})


def program(stack: Stack, name: str) -> Program:
    return next(program for program in stack.programs if program.name == name)


def kill(stack: Stack, name: str) -> None:
    victim = program(stack, name)
    os.kill(int(stack.lock(victim).read_text()), signal.SIGKILL)
    wait_until(lambda: not stack.running(victim), f"the end of {name}")


def metrics_of(stack: Stack) -> dict[str, str]:
    """Service -> its /metrics, of a stack that was made with ports for them."""
    ports = {
        service: int(stack.environment[f"{service.upper()}_METRICS_PORT"])
        for service in ("query", "embedder", "indexer")
    }
    metrics = {}
    for service, port in ports.items():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            metrics[service] = answer.read().decode()
    return metrics


@dataclass(frozen=True)
class People:
    """A held-out gallery in CUHK-PEDES's layout."""

    folder: Path
    records: list[dict[str, Any]]

    @property
    def identities(self) -> dict[str, int]:
        """Of each image, by its filename."""
        return {record["file_path"]: record["id"] for record in self.records}

    def image(self, index: int) -> bytes:
        file: str = self.records[index]["file_path"]
        return (self.folder / "imgs" / file).read_bytes()

    def data_set(self, folder: Path, records: list[dict[str, Any]]) -> Path:
        """A data set in `folder` of those records alone."""
        shutil.copytree(self.folder / "imgs", folder / "imgs", copy_function=os.link)
        (folder / "reid_raw.json").write_text(json.dumps(records))
        return folder


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
    entry = redis.xadd(INGEST_STREAM, {"batch": batch.SerializeToString()})
    assert isinstance(entry, bytes)
    return entry


def wait_until_indexed(redis: Redis, timeout_s: float = 60) -> None:
    """Returns when nothing on the stream is unfinished."""
    wait_until(lambda: redis.xlen(INGEST_STREAM) == 0, "an empty queue", timeout_s)
    assert redis.xpending(INGEST_STREAM, CONSUMER_GROUP)["pending"] == 0


def dead_letters(redis: Redis, gallery: str) -> dict[str, str]:
    """Filename -> reason of one gallery's dead letters."""
    letters = [fields for _, fields in entries(redis, DEAD_LETTERS_STREAM)]
    return {
        letter[b"filename"].decode(): letter[b"reason"].decode()
        for letter in letters
        if letter[b"gallery"].decode() == gallery
    }
