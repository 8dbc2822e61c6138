"""The self-test that `helm test` runs: it passes on a stack that works and names what does not."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from deploy.local.stack import REPOSITORY, Stack
from passerby import Client, Unavailable, selftest
from tests.support.processes import free_port

_STATES = health_pb2.HealthCheckResponse
STEPS = ["reach", "push", "index", "search", "delete"]


def run(**environment: str) -> tuple[int, dict[str, str]]:
    """Exit code, and what each step said."""
    done = subprocess.run(
        [sys.executable, "-m", "passerby.selftest"],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.stderr == ""
    return done.returncode, dict(line.split(": ", 1) for line in done.stdout.splitlines())


def test_a_stack_that_works_passes_every_step_and_keeps_nothing(
    stack: Stack, client: Client
) -> None:
    code, said = run(PASSERBY_QUERY=stack.query, REDIS_URL=stack.redis_url)
    assert code == 0, said
    assert list(said) == STEPS
    assert re.search(r" has (1 gallery|\d+ galleries)$", said["reach"])
    assert client.gallery(selftest.GALLERY).count == 0
    again, _ = run(PASSERBY_QUERY=stack.query, REDIS_URL=stack.redis_url)
    assert again == 0


def test_a_query_service_that_is_away_fails_the_first_step(stack: Stack) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    code, said = run(PASSERBY_QUERY=nowhere, REDIS_URL=stack.redis_url)
    assert code == 1
    assert list(said) == ["reach"]
    assert said["reach"].startswith(f"FAILED: the query service at {nowhere}")


def test_a_query_service_that_waits_for_milvus_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pods run, but as long as they are not ready nobody else reaches them."""
    servicer = health.HealthServicer()
    for name in ("embedder", "milvus", "redis"):
        here = name == "redis"
        servicer.set(name, (_STATES.SERVING if here else _STATES.NOT_SERVING))
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    unready = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with Client(query=f"127.0.0.1:{free_port()}") as client:
        with pytest.raises(selftest.StepFailed, match="its pods wait for embedder, milvus: "):
            selftest.SelfTest(client, {}, unready).reach()
        server.stop(None).wait()
        monkeypatch.setattr(selftest, "HEALTH_TIMEOUT_S", 0.2)
        with pytest.raises(selftest.StepFailed, match="none of its pods answers"):
            selftest.SelfTest(client, {}, unready).reach()


def test_a_queue_that_is_away_fails_the_push(stack: Stack) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    code, said = run(PASSERBY_QUERY=stack.query, REDIS_URL=nowhere)
    assert code == 1
    assert list(said) == ["reach", "push"]
    assert said["push"].startswith("FAILED: ")


def named(run: str) -> dict[str, bytes]:
    """The images of one run."""
    return {f"{run}/{name}": data for name, data in selftest.drawn_people().items()}


def test_an_indexer_that_takes_nothing_fails_the_index_step(
    stack: Stack, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No indexer reads the queue of this Redis."""
    monkeypatch.setattr(selftest, "INDEX_TIMEOUT_S", 1.0)
    with Client(query=stack.query, redis_url=redis_url) as client:
        run = selftest.SelfTest(client, named("unread"))
        run.push()
        with pytest.raises(selftest.StepFailed, match="with 1 unfinished entries"):
            run.index()


def test_images_that_are_rejected_fail_the_index_step_with_the_reason(
    stack: Stack, client: Client
) -> None:
    run = selftest.SelfTest(client, dict.fromkeys(named("broken"), b"not an image"))
    run.push()
    with pytest.raises(selftest.StepFailed, match="the indexer rejected them: "):
        run.index()
    client.clear_dead_letters(selftest.GALLERY)


def test_images_that_were_never_pushed_fail_search_and_delete(stack: Stack, client: Client) -> None:
    pushed = selftest.SelfTest(client, named("pushed"))
    for step in (pushed.push, pushed.index, pushed.delete):
        step()
    missing = selftest.SelfTest(client, named("never-pushed"))
    with pytest.raises(selftest.StepFailed, match="only 0 of 3 images were there to delete"):
        missing.delete()
    with pytest.raises((selftest.StepFailed, Unavailable), match="does not find that image"):
        missing.search()
