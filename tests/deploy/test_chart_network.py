"""Who may talk to whom: the network policies, evaluated, against the flows of the design."""

import ipaddress
from dataclasses import dataclass

import helm_python as helm
import pytest

from tests.support.chart import (
    NAMESPACE,
    SINGLE,
    Object,
    Values,
    files,
    merged,
    objects,
    of_kind,
    selects,
    workloads,
)

NAME_LABEL = "kubernetes.io/metadata.name"
METRICS_PORT = 9090


@dataclass(frozen=True)
class Place:
    """A pod, or with an address a host outside of the cluster."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    namespace: str = NAMESPACE
    namespace_labels: tuple[tuple[str, str], ...] = ()
    address: str = ""


def pod(name: str, labels: dict[str, str], namespace: str = NAMESPACE, **of: str) -> Place:
    return Place(name, tuple(labels.items()), namespace, tuple(of.items()))


DNS = pod("dns", {"k8s-app": "kube-dns"}, "kube-system")
STRANGER = pod("stranger", {"app": "stranger"})
FOREIGNER = pod("foreigner", {"app": "portal"}, "elsewhere")
CLIENT = pod("client", {"passerby/client": "true"})
PUSH = pod(
    "push",
    {
        "app.kubernetes.io/name": "passerby",
        "app.kubernetes.io/instance": "passerby",
        "app.kubernetes.io/component": "push",
        "app.kubernetes.io/part-of": "passerby",
    },
)
INTERNET = Place("internet", address="203.0.113.9")
OUTSIDE = (DNS, STRANGER, FOREIGNER, CLIENT, INTERNET)


class Network:
    """Kubernetes' semantics: a pod that no policy selects is open; else a rule must allow."""

    def __init__(self, items: list[Object]) -> None:
        self.policies = [policy["spec"] for policy in of_kind(items, "NetworkPolicy")]
        self.pods = [pod(p.name.removeprefix("passerby-"), p.labels) for p in workloads(items)]
        self.ports = {
            p.name.removeprefix("passerby-"): set(p.ports.values()) for p in workloads(items)
        }

    def allows(self, source: Place, target: Place, port: int, protocol: str = "TCP") -> bool:
        return self._side("Egress", source, target, port, protocol) and self._side(
            "Ingress", target, source, port, protocol
        )

    def _side(self, side: str, of: Place, peer: Place, port: int, protocol: str) -> bool:
        """Whether `of`'s policies allow what goes to or comes from `peer`."""
        if of.address or of.namespace != NAMESPACE:
            return True  # Others' policies are others' business.
        applying = [
            policy
            for policy in self.policies
            if side in policy["policyTypes"] and selects(policy["podSelector"], dict(of.labels))
        ]
        rules = [rule for policy in applying for rule in policy.get(side.lower()) or []]
        key = "to" if side == "Egress" else "from"
        return not applying or any(
            _port_matches(rule.get("ports"), port, protocol) and _peer_matches(rule.get(key), peer)
            for rule in rules
        )


def _port_matches(ports: list[Object] | None, port: int, protocol: str) -> bool:
    return ports is None or any(p["port"] == port and p["protocol"] == protocol for p in ports)


def _peer_matches(peers: list[Object] | None, place: Place) -> bool:
    if peers is None:
        return True
    for peer in peers:
        if block := peer.get("ipBlock"):
            inside = place.address and ipaddress.ip_address(place.address) in (
                ipaddress.ip_network(block["cidr"])
            )
            if inside:
                return True
        elif not place.address:
            labels = {NAME_LABEL: place.namespace, **dict(place.namespace_labels)}
            namespace_fits = (
                selects(peer["namespaceSelector"], labels)
                if "namespaceSelector" in peer
                else place.namespace == NAMESPACE
            )
            if namespace_fits and selects(peer.get("podSelector", {}), dict(place.labels)):
                return True
    return False


def flows(values: Values) -> set[tuple[str, str, int]]:
    """(from, to, port) of everything that can happen, over every port that anybody listens on."""
    network = Network(objects(values))
    ports: dict[str, set[int]] = {
        **network.ports,
        "dns": {53},
        "internet": {80, 443, 4317, 6380, 9000},
    }
    places = [*network.pods, PUSH, *OUTSIDE]
    return {
        (source.name, target.name, port)
        for source in places
        for target in places
        if source != target and {source, target} - set(OUTSIDE)
        for port in ports.get(target.name, {1234})
        if network.allows(source, target, port)
    }


EVERYONE = {place.name for place in OUTSIDE}
SERVICES = {"embedder", "indexer", "query"}


def expected(milvus: str = "milvus-standalone") -> set[tuple[str, str, int]]:
    """The arrows of the design's drawing, and DNS."""
    return {
        # a batch: client -> Redis -> indexer -> embedder, names, vectors
        *((client, "redis", 6379) for client in ("client", "push", "selftest", "indexer", "query")),
        ("indexer", "embedder", 50051),
        ("indexer", milvus, 19530),
        # a caption: client -> query -> embedder, vectors, names
        *((source, "query", port) for source in EVERYONE for port in (50052, 8080)),
        *((client, "query", 50052) for client in ("selftest", "push")),
        ("query", "embedder", 50051),
        ("query", milvus, 19530),
        # monitoring
        *((source, service, 9090) for source in EVERYONE for service in SERVICES),
        *((pod, "dns", 53) for pod in (*SERVICES, "selftest", "push")),
    }


def of_milvus(found: set[tuple[str, str, int]]) -> set[tuple[str, str, int]]:
    """Milvus's way out is its own chart's to limit."""
    return {flow for flow in found if not flow[0].startswith("milvus")}


def test_the_allowed_connections_are_those_of_the_design() -> None:
    assert of_milvus(flows({})) == expected()


def test_a_milvus_cluster_is_reached_at_its_proxy() -> None:
    assert of_milvus(flows(SINGLE["milvus-cluster"])) == expected("milvus-proxy")


def test_the_embedder_knows_neither_redis_nor_milvus_nor_the_world() -> None:
    reached = {target for source, target, _ in flows({}) if source == "embedder"}
    assert reached == {"dns"}


@pytest.mark.parametrize(
    ("monitoring", "open_to"),
    [({}, SERVICES), ({"serviceMonitor": True}, SERVICES), ({"enabled": False}, set())],
    ids=["default", "for-the-operator", "off"],
)
def test_metrics_are_readable_where_they_are_served(monitoring: Values, open_to: set[str]) -> None:
    """`monitoring.enabled` alone decides; a Prometheus without the operator scrapes too."""
    network = Network(objects({"monitoring": monitoring}))
    reached = {p.name for p in network.pods if network.allows(FOREIGNER, p, METRICS_PORT)}
    assert reached == open_to
    # The kubelet, which no policy keeps out, asks it in any case.
    assert {name for name, ports in network.ports.items() if METRICS_PORT in ports} == SERVICES


def test_peers_that_may_search_push_and_scrape_can_be_named() -> None:
    network = Network(objects(SINGLE["closed-policies"]))
    by_name = {place.name: place for place in network.pods}
    there = {
        "portal": pod("portal", {"app": "portal"}),
        "camera": pod("camera", {"app": "x"}, "street", team="cameras"),
        "watcher": pod("watcher", {"app": "x"}, "monitoring", team="watchers"),
        "stranger": STRANGER,
        "push": PUSH,
        "selftest": by_name["selftest"],
    }
    allowed = {
        (name, target)
        for name, place in there.items()
        for target, port in (("query", 50052), ("redis", 6379), ("indexer", 9090))
        if network.allows(place, by_name[target], port)
    }
    assert allowed == {
        ("portal", "query"),
        ("selftest", "query"),
        ("camera", "redis"),
        ("push", "query"),
        ("push", "redis"),
        ("selftest", "redis"),
        ("watcher", "indexer"),
    }


@pytest.mark.parametrize(
    ("values", "ways_out"),
    [
        (SINGLE["external-redis"], {(s, 6380) for s in ("indexer", "query", "selftest", "push")}),
        (SINGLE["external-milvus"], {("indexer", 443), ("query", 443)}),
        (SINGLE["s3-images"], {(s, 9000) for s in ("indexer", "query", "push")}),
        (SINGLE["s3-of-aws"], {(s, 443) for s in ("indexer", "query", "push")}),
        (SINGLE["model-by-s3"], {("embedder", 443)}),
        (SINGLE["traced"], {("embedder", 4317), ("indexer", 4317), ("query", 4317)}),
        (SINGLE["tuned"], {(s, 443) for s in ("indexer", "query", "push")}),
        ({}, set()),
    ],
)
def test_the_world_is_reached_where_something_lives_there(
    values: Values, ways_out: set[tuple[str, int]]
) -> None:
    found = {
        (source, port)
        for source, target, port in flows(values)
        if target == "internet" and not source.startswith("milvus")
    }
    assert found == ways_out


def test_keda_reads_the_length_of_the_queue_while_it_scales() -> None:
    keda = pod("keda", {"app": "keda-operator"}, "keda")
    elsewhere = pod("keda", {"app": "keda-operator"}, "scaling")
    neighbour = pod("neighbour", {"app": "something"}, "keda")
    peer = {"namespaceSelector": {"matchLabels": {NAME_LABEL: "scaling"}}}
    moved = merged(SINGLE["scaling"], {"networkPolicy": {"kedaFrom": [peer]}})
    for values, who in ((SINGLE["scaling"], {keda}), (moved, {elsewhere}), ({}, set())):
        network = Network(objects(values))
        (redis,) = [place for place in network.pods if place.name == "redis"]
        places = (keda, elsewhere, neighbour)
        assert {place for place in places if network.allows(place, redis, 6379)} == who


@pytest.mark.parametrize(
    ("values", "address"),
    [
        (SINGLE["scaling"], f"passerby-redis.{NAMESPACE}.svc:6379"),
        (SINGLE["external-redis-with-keda"], "redis.example:6380"),
    ],
)
def test_keda_finds_redis_from_its_own_namespace(values: Values, address: str) -> None:
    (scaler,) = of_kind(objects(values), "ScaledObject")
    (trigger,) = scaler["spec"]["triggers"]
    assert trigger["metadata"]["address"] == address


def test_a_redis_that_keda_could_not_find_is_refused() -> None:
    short = {"redis": {"enabled": False}, "externalRedis": {"url": "redis://redis:6379"}}
    with pytest.raises(helm.HelmError, match=r"externalRedis\.url: .* redis:6379 .* full name"):
        files(merged(SINGLE["scaling"], short))
    files(short)


def test_without_policies_everything_is_open() -> None:
    network = Network(objects(SINGLE["no-policies"]))
    assert all(network.allows(STRANGER, place, 6379) for place in network.pods)


def test_only_dns_itself_is_asked_for_names() -> None:
    network = Network(objects())
    fake = pod("fake", {"k8s-app": "other"}, "kube-system")
    (query,) = [place for place in network.pods if place.name == "query"]
    assert network.allows(query, DNS, 53, "UDP")
    assert not network.allows(query, fake, 53, "UDP")
    assert not network.allows(query, DNS, 443)
    cache = Place("cache on the node", address="169.254.20.10")
    assert network.allows(query, cache, 53, "UDP")
    assert not network.allows(query, cache, 80)
