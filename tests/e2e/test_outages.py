"""Whichever process dies, whenever it dies: the others wait, and nothing accepted is lost."""

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from deploy.local.stack import Stack
from passerby import Client
from passerby.contract import INGEST_STREAM
from tests.support.processes import NOT_SERVING, SERVING, health, wait_for_health, wait_until
from tests.support.stack import (
    People,
    dead_letters,
    enqueue,
    kill,
    make_stack,
    program,
    wait_until_indexed,
)

IMAGES = 240


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Not the session's stack: its processes are killed here."""
    stack = make_stack(tmp_path_factory.mktemp("outages"))
    stack.up()
    yield stack
    stack.down()


@pytest.mark.parametrize("victim", ["embedder", "indexer", "milvus", "query"])
def test_killing_a_process_while_images_come_in_loses_none(
    own_stack: Stack, people: People, victim: str
) -> None:
    gallery = f"killed-{victim}"
    batches = 0
    killed = threading.Event()
    with Redis.from_url(own_stack.redis_url) as redis:

        def push() -> None:
            """One batch; after the last image the first ones come again."""
            nonlocal batches
            numbers = [i % IMAGES for i in range(8 * batches, 8 * batches + 8)]
            enqueue(redis, gallery, {f"{i}.jpg": people.image(i) for i in numbers})
            batches += 1

        def push_until_killed() -> None:
            push()
            while not killed.wait(0.03):
                if redis.xlen(INGEST_STREAM) < 20:  # or a slow machine has to index for long
                    push()

        pusher = threading.Thread(target=push_until_killed)
        pusher.start()
        try:
            wait_until(lambda: redis.xlen(INGEST_STREAM) < batches - 5, "some progress", 60)
            kill(own_stack, victim)
        finally:
            killed.set()
            pusher.join()
        for _ in range(5):
            push()
        # Without one of the others nothing is finished.
        assert victim == "query" or redis.xlen(INGEST_STREAM) >= 5
        own_stack.up()
        wait_until_indexed(redis, 120)
        assert dead_letters(redis, gallery) == {}
    with Client(query=own_stack.query, redis_url=own_stack.redis_url) as client:
        everything = {f"{i}.jpg" for i in range(min(8 * batches, IMAGES))}
        assert client.gallery(gallery).count == len(everything)
        found = {hit.filename for hit in client.search("a person", gallery=gallery, top_k=40)}
        assert len(found) == 40
        assert found <= everything
        # Name by name, where a search that deep may leave some out.
        assert client.delete(filenames=sorted(everything), gallery=gallery) == len(everything)


@pytest.mark.parametrize("gone", ["embedder", "milvus", "redis"])
def test_services_say_what_is_missing_and_go_on_by_themselves(
    own_stack: Stack, people: People, gone: str
) -> None:
    gallery = f"without-{gone}"
    query, indexer = own_stack.query, f"127.0.0.1:{own_stack.ports.indexer}"
    with Redis.from_url(own_stack.redis_url) as redis:
        enqueue(redis, gallery, {"before.jpg": people.image(0)})
        wait_until_indexed(redis)
    kill(own_stack, gone)
    for service in (query, indexer):
        wait_for_health(service, NOT_SERVING, gone)
        assert health(service) == NOT_SERVING
        assert health(service, "live") == SERVING
    with (
        Client(query=query, redis_url=own_stack.redis_url) as client,
        pytest.raises(Exception, match="(?i)" + gone),
    ):
        client.search("a person", gallery=gallery)
    own_stack.start(program(own_stack, gone))
    for service in (query, indexer):
        wait_for_health(service)
    with Redis.from_url(own_stack.redis_url) as redis:
        enqueue(redis, gallery, {"after.jpg": people.image(1)})
        wait_until_indexed(redis)
    with Client(query=query, redis_url=own_stack.redis_url) as client:
        found = {hit.filename for hit in client.search("a person", gallery=gallery)}
    assert found == {"before.jpg", "after.jpg"}


def test_services_start_in_any_order(people: People, tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    for folder in ("logs", "run", "redis", "milvus", "images"):
        (stack.state / folder).mkdir(parents=True)
    try:
        for name in ("query", "indexer"):
            stack.start(program(stack, name))
        for port in (stack.ports.query, stack.ports.indexer):
            wait_for_health(f"127.0.0.1:{port}", SERVING, "live")
            assert health(f"127.0.0.1:{port}") == NOT_SERVING
        stack.up()
        with Redis.from_url(stack.redis_url) as redis:
            enqueue(redis, "late", {"1.jpg": people.image(0)})
            wait_until_indexed(redis)
        with Client(query=stack.query, redis_url=stack.redis_url) as client:
            assert [hit.filename for hit in client.search("a person", gallery="late")] == ["1.jpg"]
    finally:
        stack.down()


def test_searches_answer_while_a_gallery_grows(own_stack: Stack, people: People) -> None:
    """Readers meet names and vectors in any state of writing; each hit has a name, once."""
    stop = threading.Event()
    with Redis.from_url(own_stack.redis_url) as redis:
        enqueue(redis, "growing", {"first.jpg": people.image(0)})
        wait_until_indexed(redis)

        def push() -> None:
            for i in itertools.cycle(range(200)):
                while redis.xlen(INGEST_STREAM) > 50:
                    time.sleep(0.01)  # or a slow machine has to index for minutes at the end
                if stop.is_set():
                    return
                enqueue(redis, "growing", {f"{i}.jpg": people.image(i)})

        pusher = threading.Thread(target=push)
        pusher.start()
        try:
            with Client(query=own_stack.query, redis_url=own_stack.redis_url) as client:
                for _ in range(30):
                    names = [hit.filename for hit in client.search("a man", gallery="growing")]
                    assert len(names) == len(set(names))
        finally:
            stop.set()
            pusher.join()
        wait_until_indexed(redis, 120)
