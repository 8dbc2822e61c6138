"""Who reaches whom: the whole matrix of the network policies, tried from pods."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.cluster import client_pod
from tests.cluster.kubernetes import Kubernetes, namespace
from tests.cluster.machine.shell import wait_for
from tests.cluster.release import INSIDE, Release

# Component -> (port -> who may connect). Everyone: any pod of any namespace.
EVERYONE = "everyone"
MATRIX: dict[str, dict[int, set[str]]] = {
    "embedder": {50051: {"indexer", "query"}, 9090: {EVERYONE}},
    "indexer": {50053: set(), 9090: {EVERYONE}},
    "query": {50052: {EVERYONE}, 8080: {EVERYONE}, 9090: {EVERYONE}},
    "redis": {6379: {"indexer", "query", "push", "selftest", "client"}},
    "milvus": {19530: {"indexer", "query"}},
}
# Who may not connect to all that would let them in: component -> where it may go.
LEAVES: dict[str, set[tuple[str, int]]] = {
    "embedder": set(),
    "redis": set(),
    "push": {("redis", 6379), ("query", 50052)},
    "selftest": {("redis", 6379), ("query", 50052)},
    "indexer": {("redis", 6379), ("milvus", 19530), ("embedder", 50051)},
    "query": {("redis", 6379), ("milvus", 19530), ("embedder", 50051)},
}
# Pods of no Service, so that none of the release's own is called in their place.
LABELS = {
    "client": {"passerby/client": "true"},
    "stranger": {},
    **{
        part: {
            "app.kubernetes.io/name": "passerby",
            "app.kubernetes.io/instance": "passerby",
            "app.kubernetes.io/component": part,
        }
        for part in ("push", "selftest")
    },
}
# As long as an enforcer takes to learn of a pod, and more.
LEARNT_S = 5


def expected(source: str) -> dict[tuple[str, int], bool]:
    return {
        (target, port): (source in allowed or EVERYONE in allowed)
        and (source not in LEAVES or (target, port) in LEAVES[source])
        for target, ports in MATRIX.items()
        for port, allowed in ports.items()
    }


@pytest.fixture(scope="module")
def outside() -> Iterator[Kubernetes]:
    with namespace("outside") as cluster:
        yield cluster


def start(cluster: Kubernetes, release: Release, name: str, labels: dict[str, str]) -> None:
    pod = client_pod.manifest(release, f"reach-{name}")
    pod["metadata"]["labels"] = labels
    if cluster != release.cluster:
        # The Secret with the password is not there.
        pod["spec"]["containers"][0]["env"] = []
    cluster.apply(pod)
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/reach-{name}", "--timeout=120s")


def reached(cluster: Kubernetes, pod: str, release: Release) -> dict[tuple[str, int], bool]:
    """What the pod can connect to, by the addresses of the pods that it is about."""
    addresses = {
        f"{release.pods_of(target)[0]['status']['podIP']}:{port}": (target, port)
        for target, ports in MATRIX.items()
        for port in ports
    }
    found = json.loads(cluster.python(f"pod/{pod}", INSIDE / "reach.py", *addresses))
    return {addresses[address]: is_open for address, is_open in found.items()}


@pytest.mark.parametrize("source", [*LABELS, "outside"])
def test_who_reaches_whom_from_other_pods(pair: Release, outside: Kubernetes, source: str) -> None:
    cluster = outside if source == "outside" else pair.cluster
    start(cluster, pair, source, LABELS.get(source, {}))
    time.sleep(LEARNT_S)
    assert reached(cluster, f"reach-{source}", pair) == expected(source)


# Redis' and Milvus' own images have no Python to try with; their stand-ins do.
@pytest.mark.parametrize("source", ["embedder", "indexer", "query"])
def test_who_reaches_whom_from_its_own_pods(pair: Release, source: str) -> None:
    found = reached(pair.cluster, pair.pod_of(source), pair)
    itself = {key: value for key, value in found.items() if key[0] != source}
    assert itself == {k: v for k, v in expected(source).items() if k[0] != source}


def test_a_new_pod_is_let_in_within_seconds(pair: Release) -> None:
    """How long an enforcer takes to learn of a pod, which is what clients have to wait for."""
    start(pair.cluster, pair, "late", {"passerby/client": "true"})
    redis = ("redis", 6379)
    wait_for(lambda: reached(pair.cluster, "reach-late", pair)[redis], "Redis lets it in", 30)
