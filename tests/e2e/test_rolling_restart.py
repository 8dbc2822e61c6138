"""A rolling restart under load, as a Deployment does it: no failed search, no lost batch."""

import contextlib
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import Redis

from deploy.local.stack import REPOSITORY, Stack
from passerby import Client
from tests.support.processes import free_port, wait_for_health
from tests.support.stack import (
    People,
    dead_letters,
    enqueue,
    make_stack,
    program,
    wait_until_indexed,
)

SERVICES = ("embedder", "indexer", "query")


@dataclass
class Replicas:
    """Two processes of each service, beside one Redis and one Milvus."""

    stack: Stack
    ports: dict[str, tuple[int, int]]
    processes: dict[tuple[str, int], subprocess.Popen[bytes]] = field(default_factory=dict)

    def address(self, service: str) -> str:
        """A target whose addresses gRPC balances over, as a headless Service's are."""
        return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in self.ports[service])

    def start(self, service: str, number: int) -> None:
        port = self.ports[service][number]
        log = self.stack.state / "logs" / f"{service}-{number}.log"
        with log.open("ab") as output:
            self.processes[service, number] = subprocess.Popen(
                [sys.executable, "-m", f"services.{service}"],
                cwd=REPOSITORY,
                env={
                    **self.stack.environment,
                    f"{service.upper()}_PORT": str(port),
                    "QUERY_HTTP_PORT": str(free_port()),
                    "INDEXER_CONSUMER": f"indexer-{number}",
                    "EMBEDDER_ADDRESS": self.address("embedder"),
                },
                stdout=output,
                stderr=output,
            )
        wait_for_health(f"127.0.0.1:{port}", timeout_s=90)

    def stop(self, service: str, number: int) -> None:
        """SIGTERM, and the exit code that says that nothing was cut off."""
        process = self.processes.pop((service, number))
        process.terminate()
        assert process.wait(40) == 0


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[Replicas]:
    stack = make_stack(tmp_path)
    for folder in ("logs", "run", "redis", "milvus", "images"):
        (stack.state / folder).mkdir(parents=True)
    ports = {service: (free_port(), free_port()) for service in SERVICES}
    replicas = Replicas(stack, ports)
    try:
        for name in ("redis", "milvus"):
            stack.start(program(stack, name))
            stack.wait_for(program(stack, name))
        for service in SERVICES:
            for number in (0, 1):
                replicas.start(service, number)
        yield replicas
    finally:
        for process in replicas.processes.values():
            process.kill()
            process.wait()
        stack.down()


class Load:
    """Pushes images of `people` to a gallery and searches it, from three threads."""

    def __init__(self, replicas: Replicas, gallery: str, people: People) -> None:
        self.replicas, self.gallery, self.people = replicas, gallery, people
        self.pushed = {"first.jpg"}
        self.searches = 0
        self.failures: list[Exception] = []
        self._done = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with Redis.from_url(self.replicas.stack.redis_url) as redis:
            enqueue(redis, self.gallery, {"first.jpg": self.people.image(0)})
            wait_until_indexed(redis)
        threads = [threading.Thread(target=work) for work in (self._push, *[self._search] * 2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._done.set()
            for thread in threads:
                thread.join()

    def _push(self) -> None:
        with Redis.from_url(self.replicas.stack.redis_url) as redis:
            for number in itertools.count():
                # Not without a pause: on two cores the starting replicas would wait for it.
                if self._done.wait(0.05):
                    return
                image = self.people.image(number % len(self.people.records))
                enqueue(redis, self.gallery, {f"{number}.jpg": image})
                self.pushed.add(f"{number}.jpg")

    def _search(self) -> None:
        with Client(query=self.replicas.address("query")) as client:
            while not self._done.wait(0.05):
                try:
                    assert client.search("a woman in a blue coat", gallery=self.gallery)
                except Exception as error:  # noqa: BLE001 - each is a finding
                    self.failures.append(error)
                self.searches += 1


def test_restarting_one_replica_after_the_other_is_not_noticed(
    replicas: Replicas, people: People
) -> None:
    load = Load(replicas, "rolling", people)
    with load.running():
        for service in SERVICES:
            for number in (0, 1):
                replicas.stop(service, number)
                replicas.start(service, number)
    assert load.failures == []
    assert load.searches > 50
    with Redis.from_url(replicas.stack.redis_url) as redis:
        wait_until_indexed(redis)
        assert dead_letters(redis, "rolling") == {}
    with Client(query=replicas.address("query")) as client:
        assert client.gallery("rolling").count == len(load.pushed)
        found = {hit.filename for hit in client.search("a person", gallery="rolling", top_k=100)}
        assert len(found) == 100
        assert found <= load.pushed
        # Name by name, where a search that deep may leave some out.
        assert client.delete(filenames=sorted(load.pushed), gallery="rolling") == len(load.pushed)
