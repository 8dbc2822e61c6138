"""Upgrades and placement: what must stay stays, and pods move without an interruption."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import helm_python as helm
import pytest

from deploy.helm.manifests import PROFILES, values_of
from passerby.pushing import MAX_PENDING_ENTRIES
from tests.support.chart import (
    NAMESPACE,
    SINGLE,
    Object,
    Values,
    chart_folder,
    files,
    merged,
    named,
    objects,
    objects_in,
    of_kind,
    workloads,
)


@pytest.mark.parametrize("values", SINGLE.values(), ids=SINGLE.keys())
def test_an_upgrade_changes_nothing_but_what_was_changed(values: Values) -> None:
    def without_secrets(rendered: dict[str, str]) -> list[Object]:
        return [item for item in objects_in(rendered) if item["kind"] != "Secret"]

    assert without_secrets(files(values)) == without_secrets(files(values, is_upgrade=True))


@pytest.mark.parametrize("service", ["indexer", "query"])
def test_an_upgrade_starts_a_pod_before_it_stops_one(service: str) -> None:
    strategy = named(objects(), "Deployment", f"passerby-{service}")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize(("surge", "unavailable"), [(1, 0), (0, 1)])
def test_an_embedder_without_a_spare_gpu_stops_first(surge: int, unavailable: int) -> None:
    items = objects({"embedder": {"maxSurge": surge}})
    strategy = named(items, "Deployment", "passerby-embedder")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": surge, "maxUnavailable": unavailable}


def test_pods_that_share_a_volume_of_one_node_are_kept_on_one_node() -> None:
    def affinity(values: Values) -> list[Any]:
        return [
            pod.spec.get("affinity")
            for pod in workloads(objects(values), ours=True)
            if pod.name in ("passerby-indexer", "passerby-query")
        ]

    first, second = affinity({})
    assert first == second is not None
    (term,) = first["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    sharing = [
        pod.name
        for pod in workloads(objects())
        if term["labelSelector"]["matchLabels"].items() <= pod.labels.items()
    ]
    assert sorted(sharing) == ["passerby-indexer", "passerby-query"]
    for name in ("images-on-many-nodes", "s3-images", "no-images"):
        assert affinity(SINGLE[name]) == [None, None]


def test_pods_that_cannot_move_have_no_budget_that_would_block_a_drain() -> None:
    def budgets(values: Values) -> list[str]:
        return [
            item["metadata"]["name"] for item in of_kind(objects(values), "PodDisruptionBudget")
        ]

    assert budgets({}) == ["passerby-embedder"]
    for name in ("images-on-many-nodes", "s3-images", "no-images"):
        assert budgets(SINGLE[name]) == [f"passerby-{s}" for s in ("embedder", "indexer", "query")]
    assert budgets(SINGLE["no-budgets"]) == []


def test_an_indexer_with_0_replicas_lets_a_backup_be_restored_first() -> None:
    scaled_later: Values = {"indexer": {"replicas": 0, "autoscaling": {"enabled": False}}}
    for profile in PROFILES:
        items = objects(merged(values_of(profile), scaled_later))
        assert named(items, "Deployment", "passerby-indexer")["spec"]["replicas"] == 0
        assert not of_kind(items, "ScaledObject")


def _kinds(group: str, name: str, kind: str) -> Object:
    resource = {"name": name, "kind": kind, "namespaced": True, "verbs": ["get"]}
    return {"kind": "APIResourceList", "groupVersion": group, "resources": [resource]}


APPS = {"groupVersion": "apps/v1", "version": "v1"}
DISCOVERY: dict[str, Object] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [{"name": "apps", "versions": [APPS], "preferredVersion": APPS}],
    },
    "/api/v1": _kinds("v1", "secrets", "Secret"),
    "/apis/apps/v1": _kinds("apps/v1", "deployments", "Deployment"),
    "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
}


class Cluster(BaseHTTPRequestHandler):
    """The Kubernetes API as far as Helm's `lookup` of Secrets and Deployments goes."""

    # Path within the namespace -> what is there.
    objects: ClassVar[dict[str, Object]] = {}

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        answer = DISCOVERY.get(path) or self.objects.get(
            re.sub(f".*/namespaces/{NAMESPACE}/", "", path)
        )
        body = json.dumps(answer or {"kind": "Status", "code": 404, "reason": "NotFound"}).encode()
        self.send_response(200 if answer else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def cluster() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Cluster) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def rendered_at(cluster: str, values: Values) -> list[Object]:
    with (
        helm.Chart.load(chart_folder()) as chart,
        helm.Config(kube_apiserver=cluster, namespace=NAMESPACE) as config,
    ):
        rendered = config.render(chart, values, name="passerby", namespace=NAMESPACE)
    return objects_in(rendered)


def test_an_upgrade_keeps_the_password_that_an_install_made(
    cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def password() -> str:
        secret = named(rendered_at(cluster, {}), "Secret", "passerby-redis")
        return base64.b64decode(secret["data"]["password"]).decode()

    monkeypatch.setattr(Cluster, "objects", {})
    made, other = password(), password()
    assert made != other
    assert re.fullmatch(r"[A-Za-z0-9]{32}", made)
    kept = {"password": base64.b64encode(made.encode()).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "passerby-redis"}}
    monkeypatch.setattr(Cluster, "objects", {"secrets/passerby-redis": {**secret, "data": kept}})
    assert password() == made


def replicas(items: list[Object]) -> dict[str, int]:
    found = of_kind(items, "Deployment")
    ours = [d for d in found if "milvus" not in d["metadata"]["name"]]
    return {d["metadata"]["name"].removeprefix("passerby-"): d["spec"]["replicas"] for d in ours}


def test_autoscaling_starts_from_what_runs(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left out, Kubernetes would make the number 1, and nine of ten pods would go at once."""

    def live(**counts: int) -> dict[str, Object]:
        return {
            f"deployments/passerby-{name}": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": f"passerby-{name}", "namespace": NAMESPACE},
                "spec": {"replicas": count},
            }
            for name, count in counts.items()
        }

    scaling = merged(SINGLE["scaling"], {"indexer": {"autoscaling": {"minReplicas": 3}}})
    monkeypatch.setattr(Cluster, "objects", live(embedder=4, indexer=1, query=10))
    assert replicas(rendered_at(cluster, scaling)) == {"embedder": 4, "indexer": 1, "query": 10}
    # A HorizontalPodAutoscaler leaves a Deployment without pods alone, KEDA does not.
    monkeypatch.setattr(Cluster, "objects", live(embedder=0, indexer=0, query=0))
    assert replicas(rendered_at(cluster, scaling)) == {"embedder": 1, "indexer": 0, "query": 2}
    # Without autoscaling the values alone decide.
    assert replicas(rendered_at(cluster, {})) == {"embedder": 1, "indexer": 1, "query": 2}
    # At an install nothing runs, and `helm template` asks nobody.
    monkeypatch.setattr(Cluster, "objects", {})
    smallest = {"embedder": 1, "indexer": 3, "query": 2}
    assert replicas(rendered_at(cluster, scaling)) == smallest
    assert replicas(objects(scaling)) == smallest


def test_one_client_that_pushes_makes_work_for_as_many_indexers_as_there_may_be() -> None:
    (scaler,) = of_kind(objects(SINGLE["scaling"]), "ScaledObject")
    (trigger,) = scaler["spec"]["triggers"]
    asked = MAX_PENDING_ENTRIES / int(trigger["metadata"]["streamLength"])
    assert asked >= scaler["spec"]["maxReplicaCount"]
