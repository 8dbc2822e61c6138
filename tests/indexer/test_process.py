"""The indexer as a process: killed, stopped, started too early, told nonsense."""

import signal
import subprocess
import sys
from functools import partial

import pytest

from passerby.contract import CONSUMER_GROUP, INGEST_STREAM
from tests.support.indexer import Stack
from tests.support.models import make_model
from tests.support.pictures import picture
from tests.support.processes import REPOSITORY, SERVING, Service, free_port, health, wait_until

IMAGES = 160


def push_all(stack: Stack) -> None:
    for start in range(0, IMAGES, 4):
        stack.push("people", {f"{i}.png": picture(i) for i in range(start, start + 4)})


def has_names(stack: Stack, count: int) -> bool:
    return len(stack.names("people")) >= count


def assert_all_once(stack: Stack) -> None:
    assert stack.rows("people") == IMAGES
    assert stack.names("people") == sorted(f"{i}.png" for i in range(IMAGES))
    kept = [path.read_bytes() for path in (stack.folder / "kept").rglob("*") if path.is_file()]
    assert sorted(kept) == sorted(picture(i) for i in range(IMAGES))
    assert [letter["filename"] for letter in stack.dead_letters()] == ["broken.png"]
    assert stack.redis.xpending(INGEST_STREAM, CONSUMER_GROUP)["pending"] == 0


def test_killed_again_and_again_it_indexes_everything_once(stack: Stack) -> None:
    stack.push("people", {"broken.png": b"I am a text"})
    for names in (1, IMAGES // 3, 2 * IMAGES // 3):
        # Again each time: a quick machine indexes them all before it is killed.
        push_all(stack)
        stack.indexer.start(ready=False, INDEXER_BATCH_IMAGES="8")
        wait_until(partial(has_names, stack, names), "some names", 60)
        stack.indexer.end(signal.SIGKILL)
    assert stack.redis.xlen(INGEST_STREAM) > 0
    # A pod with another name finds what the dead one had in hand.
    stack.indexer.start(INDEXER_CONSUMER="another-pod")
    stack.drained(60)
    assert_all_once(stack)
    assert stack.indexer.end() == 0


def test_stopped_it_finishes_what_is_in_hand_and_leaves_the_rest(stack: Stack) -> None:
    stack.push("people", {"broken.png": b"I am a text"})
    for _ in range(3):
        push_all(stack)
    stack.indexer.start(ready=False, INDEXER_BATCH_IMAGES="8")
    wait_until(lambda: len(stack.names("people")) >= 20, "some names", 60)
    assert stack.indexer.end(signal.SIGTERM) == 0
    assert stack.redis.xlen(INGEST_STREAM) > 0
    assert stack.redis.xpending(INGEST_STREAM, CONSUMER_GROUP)["pending"] == 0
    stack.indexer.start(ready=False)
    stack.drained(60)
    assert_all_once(stack)


def test_started_alone_it_says_what_is_missing_and_works_once_it_is_there(
    stack: Stack, embedder: Service
) -> None:
    late = Service("embedder", embedder.environment)
    stack.push("people", {"1.png": picture(1), "2.png": picture(2)})
    stack.indexer.start(ready=False, EMBEDDER_ADDRESS=late.address)
    address = stack.indexer.address
    wait_until(lambda: health(address, "milvus") == SERVING, "Milvus found", 60)
    wait_until(lambda: health(address, "redis") == SERVING, "Redis found", 60)
    assert health(address, "live") == SERVING
    assert health(address, "embedder") != SERVING
    assert health(address) != SERVING
    late.start()
    try:
        wait_until(lambda: health(address) == SERVING, "readiness", 60)
        stack.drained(60)
        before = stack.milvus.describe_alias("gallery_people")["collection_name"]
        assert stack.rows("people") == 2
        late.end(signal.SIGKILL)
        wait_until(lambda: health(address, "embedder") != SERVING, "loss reported", 60)
        stack.push("people", {"1.png": picture(1)})
        # A model's successor: its images lie beside the old ones until there are as many.
        make_model(stack.folder / "successor", seed=2)
        late.start(EMBEDDER_MODELS=str(stack.folder / "successor"))
        stack.drained(60)
        assert stack.milvus.describe_alias("gallery_people")["collection_name"] == before
        stack.push("people", {"2.png": picture(2), "3.png": picture(3)})
        stack.drained(60)
        assert stack.milvus.describe_alias("gallery_people")["collection_name"] != before
        assert stack.rows("people") == 3
        assert stack.dead_letters() == []
    finally:
        late.end(signal.SIGKILL)


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("INDEXER_ALLOWED_ROOTS", "nonsense://images", "nonsense"),
        ("INDEXER_BATCH_IMAGES", "0", "greater than or equal to 1"),
        ("REDIS_URL", "localhost:6379", "redis://, rediss:// or unix://"),
        ("REDIS_URL", "redis://localhost:port", "its port is not a number"),
        ("MILVUS_INDEX_PARAMS", "{M: 16}", "property name enclosed in double quotes"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_is_named(
    variable: str, value: str, allowed: str
) -> None:
    started = subprocess.run(
        [sys.executable, "-m", "services.indexer"],
        env={variable: value, "INDEXER_PORT": str(free_port())},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert started.returncode == 2
    assert variable in started.stderr
    assert value in started.stderr
    assert allowed in started.stderr
    assert "Traceback" not in started.stderr
