"""A node is drained, killed, or falls silent: the other one goes on searching."""

import time
from collections.abc import Iterator

import pytest

from tests.cluster import client_pod
from tests.cluster.machine import network
from tests.cluster.machine.cluster import Machine
from tests.cluster.machine.shell import wait_for
from tests.cluster.people import GALLERY
from tests.cluster.records import Record
from tests.cluster.release import Release
from tests.cluster.search_load import SearchLoad, searched

pytestmark = pytest.mark.long

SETTLE_S = 5
# A search may be asked again elsewhere within its deadline, but not for longer.
SLOWEST_S = 3.0
WATCHER = "watcher"


def nodes(release: Release) -> list[str]:
    return [item["metadata"]["name"] for item in release.cluster.get("nodes")["items"]]


def watch_from(release: Release, node: str) -> None:
    """A client's pod on that node."""
    cluster = release.cluster
    cluster.kubectl("delete", "pod", WATCHER, "--ignore-not-found", "--grace-period=0", "--force")
    client_pod.start(release, WATCHER, node=node)


def keep_data_away_from(release: Release, node: str) -> None:
    """Moves Redis and Milvus, of which there is one each, to another node."""
    cluster = release.cluster
    cluster.kubectl("cordon", node)
    for part in ("redis", "milvus"):
        for pod in release.pods_of(part):
            if pod["spec"].get("nodeName") == node:
                cluster.kubectl("delete", "pod", pod["metadata"]["name"])
    release.wait_until_ready()
    cluster.kubectl("uncordon", node)


def spread(release: Release) -> None:
    """One embedder and one query on each node, as after an installation."""
    for part in ("embedder", "query"):
        if len({pod["spec"]["nodeName"] for pod in release.pods_of(part)}) < 2:
            release.cluster.kubectl("rollout", "restart", f"deployment/{release.name}-{part}")
    release.wait_until_ready()
    for part in ("embedder", "query"):
        assert len({pod["spec"]["nodeName"] for pod in release.pods_of(part)}) == 2, part


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("data", ["elsewhere", "there"])
def test_drain(pair: Release, record: Record, number: int, data: str) -> None:
    drained, other = nodes(pair)[number], nodes(pair)[1 - number]
    keep_data_away_from(pair, drained if data == "elsewhere" else other)
    spread(pair)
    watch_from(pair, other)
    cluster = pair.cluster
    try:
        with SearchLoad(pair, GALLERY, WATCHER) as load:
            words = ["--ignore-daemonsets", "--delete-emptydir-data", "--force"]
            cluster.kubectl("drain", drained, *words, "--timeout=300s")
            pair.wait_until_ready()
            searched(pair, GALLERY)
            time.sleep(SETTLE_S)
    finally:
        cluster.kubectl("uncordon", drained)
    record.load(load)
    if data == "elsewhere":
        assert load.failed == 0, load.said


@pytest.fixture
def lost(pair: Release, machine: Machine) -> Iterator[str]:
    """The node that is about to be lost, which holds one of two and no data."""
    node = machine.layout.nodes[1].name
    keep_data_away_from(pair, node)
    spread(pair)
    watch_from(pair, machine.layout.master.name)
    yield node
    wait_for(lambda: machine.is_up, "both nodes are back")
    pair.wait_until_ready()


def gone(release: Release, node: str) -> bool:
    """Whether Kubernetes has noticed."""
    conditions = release.cluster.get(f"node/{node}")["status"]["conditions"]
    return any(c["type"] == "Ready" and c["status"] == "Unknown" for c in conditions)


def test_node_killed(pair: Release, machine: Machine, lost: str, record: Record) -> None:
    with SearchLoad(pair, GALLERY, WATCHER) as load:
        machine.kill_node(machine.layout.nodes[1])
        wait_for(lambda: gone(pair, lost), "the loss is noticed")
        time.sleep(SETTLE_S)
        machine.start_node(machine.layout.nodes[1])
        pair.wait_until_ready()
        time.sleep(SETTLE_S)
    record.load(load)
    assert load.failed == 0, load.said
    assert load.slowest_s < SLOWEST_S


def test_node_silent(pair: Release, machine: Machine, lost: str, record: Record) -> None:
    """Its packets are dropped, so that no connection ends by itself."""
    with SearchLoad(pair, GALLERY, WATCHER) as load:
        network.silence(machine.layout, machine.layout.nodes[1])
        try:
            wait_for(lambda: gone(pair, lost), "the loss is noticed")
            time.sleep(SETTLE_S)
        finally:
            network.mend(machine.layout, machine.layout.nodes[1])
        wait_for(lambda: machine.is_up, f"{lost} is back")
        time.sleep(SETTLE_S)
    record.load(load)
    assert load.failed == 0, load.said
    assert load.slowest_s < SLOWEST_S
