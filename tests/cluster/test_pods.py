"""Any one pod is killed: searches go on where there are two, and no image is lost anywhere."""

import time

import pytest

from tests.cluster.machine.shell import wait_for
from tests.cluster.people import GALLERY, People, finished, push
from tests.cluster.records import Record
from tests.cluster.release import Release
from tests.cluster.search_load import SearchLoad, searched

# What a replaced pod may still break after it is ready shows within this time.
SETTLE_S = 5
PARTS = ["embedder", "indexer", "query", "redis", "milvus"]


def kill(release: Release, part: str) -> str:
    """Takes the pod away at once, however its processes end; its uid."""
    pod = release.pods_of(part)[0]["metadata"]
    release.cluster.kubectl("delete", "pod", pod["name"], "--grace-period=0", "--force")
    return str(pod["uid"])


def replaced(release: Release, part: str, killed: str) -> float:
    """Seconds until another pod stands for the killed one, ready by its own account."""

    def ready() -> bool:
        pods = [pod for pod in release.pods_of(part) if pod["metadata"]["uid"] != killed]
        conditions = [c for pod in pods for c in pod["status"].get("conditions", [])]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    return wait_for(ready, f"another {part} is ready", timeout_s=300)


@pytest.mark.parametrize("part", ["embedder", "indexer", "query"])
def test_kill_one_of_two(pair: Release, record: Record, part: str) -> None:
    with SearchLoad(pair, GALLERY) as load:
        kill(pair, part)
        pair.wait_until_ready()
        time.sleep(SETTLE_S)
    record.load(load)
    assert load.failed == 0, load.said


@pytest.mark.parametrize("part", ["redis", "milvus"])
def test_kill_where_the_data_are(pair: Release, people: People, record: Record, part: str) -> None:
    """Searches fail meanwhile, and find the same as before afterwards."""
    held, hits = pair.held(GALLERY), pair.ten_searches(GALLERY)
    with SearchLoad(pair, GALLERY) as load:
        record.note = f"ready itself after {replaced(pair, part, kill(pair, part)):.0f} s"
        pair.wait_until_ready()
        searched(pair, GALLERY)
        time.sleep(SETTLE_S)
    record.load(load)
    now = pair.held(GALLERY)
    record.held(now, people.filenames)
    assert now == held
    assert pair.ten_searches(GALLERY) == hits
    assert len(load.outages) <= 1, load.said


def test_kill_each_pod_during_a_push(pair: Release, people: People, record: Record) -> None:
    job = push(pair, "pushed-through")
    for part in PARTS:
        kill(pair, part)
        pair.wait_until_ready()
    finished(pair, job)
    held = pair.held("pushed-through")
    record.held(held, people.filenames)
    assert (held.lost(people.filenames), held.double) == (0, 0)
