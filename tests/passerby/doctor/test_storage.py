"""Claims that nothing provisions, and data that would go with their pod."""

from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from deploy.helm.manifests import PROFILES, values_of
from passerby.cluster.access import Workload
from passerby.cluster.doctor.claims import check_claims, wanted_claims, why_unbound
from passerby.cluster.doctor.data import check_data, milvus_places, places, volume_of
from passerby.cluster.doctor.finding import Finding
from tests.support import kubernetes_api
from tests.support.chart import Values, merged, objects
from tests.support.kubernetes_api import RELEASE, KubernetesApi, claim, connected

LOCAL, FAST = "local", "fast"


def reason(
    wanted: str | None,
    *classes: dict[str, Any],
    phase: str = "Pending",
    node: str = "",
    **event: str,
) -> str:
    item = claim("images", phase, wanted)
    item["metadata"]["annotations"] = {"volume.kubernetes.io/selected-node": node} if node else {}
    named = {c["metadata"]["name"]: client.V1StorageClass.from_dict(c) for c in classes}
    events = [
        kubernetes_api.warning("PersistentVolumeClaim", "images", why, message)
        for why, message in event.items()
    ]
    warnings = [client.CoreV1Event.from_dict(event) for event in events]
    return why_unbound(client.V1PersistentVolumeClaim.from_dict(item), named, warnings)


def test_a_claim_that_nothing_provisions_says_why() -> None:
    plain = kubernetes_api.storage_class(LOCAL, default=False)
    default = kubernetes_api.storage_class(LOCAL, waits=False)
    lazy = kubernetes_api.storage_class(LOCAL)
    assert reason(None, plain) == (
        "Pending: it names no class, and there is no default StorageClass (there are: local)"
    )
    assert reason(FAST, plain) == "Pending: there is no StorageClass fast (there are: local)"
    assert reason(LOCAL, default) == (
        "Pending: its provisioner (example.com/local) does not answer"
    )
    assert reason(LOCAL, default, ProvisioningFailed="disk quota") == (
        "Pending: its provisioner says ProvisioningFailed: disk quota"
    )
    assert reason(LOCAL, lazy) == "", "its pod is not scheduled yet"
    assert "does not answer" in reason(LOCAL, lazy, node="node-a")
    assert reason(LOCAL, lazy, phase="Lost") == "Lost: its volume is gone"


def of_release(rendered: list[dict[str, Any]], kind: str, name: str) -> Workload:
    """A workload of the chart as the API returns it."""
    resource = f"{kind}s"
    (item,) = [
        item
        for item in KubernetesApi.installed(rendered).objects[resource]
        if item["metadata"]["name"] == name
    ]
    if kind == "deployment":
        return Workload("deployment", client.V1Deployment.from_dict(item))
    return Workload("statefulset", client.V1StatefulSet.from_dict(item))


def test_claims_are_those_of_the_pods_and_of_the_templates() -> None:
    rendered = objects({"embedder": {"model": {"source": "claim", "existingClaim": "models"}}})
    workloads = [
        of_release(rendered, "deployment", "passerby-embedder"),
        of_release(rendered, "deployment", "passerby-query"),
        of_release(rendered, "statefulset", "passerby-redis"),
    ]
    there = dict.fromkeys(["data-passerby-redis-0", "data-passerby-redis-old", "another"])
    assert wanted_claims(workloads, there) == [
        *("data-passerby-redis-0", "models", "passerby-images"),
    ]


def examined(check: Any, api: KubernetesApi, folder: Path) -> list[Finding]:
    with connected(api, folder) as cluster:
        findings: list[Finding] = check(cluster)
        return findings


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.stem)
def test_every_profile_keeps_its_data_on_claims(profile: Path, tmp_path: Path) -> None:
    api = KubernetesApi.installed(objects(values_of(profile)))
    findings = examined(check_data, api, tmp_path)
    assert {finding.verdict for finding in findings} == {"ok"}
    found = "\n".join(finding.detail for finding in findings)
    assert "the queue and the names lie in a claim (/data)" in found
    assert "the images lie in a claim" in found
    assert ("the vectors lie in a claim" in found) == (profile.stem == "laptop-cpu")


def test_vectors_in_an_emptydir_are_found_with_the_way_to_save_them(tmp_path: Path) -> None:
    """The release that the chart made before it refused these values."""
    (laptop,) = [values_of(profile) for profile in PROFILES if profile.stem == "laptop-cpu"]
    api = KubernetesApi.installed(objects(laptop))
    (milvus,) = [
        item
        for item in api.objects["deployments"]
        if item["metadata"]["name"] == "passerby-milvus-standalone"
    ]
    spec = milvus["spec"]["template"]["spec"]
    spec["volumes"].append({"name": "disk", "emptyDir": {}})
    mount = {"name": "disk", "mountPath": "/var/lib/milvus/data"}
    spec["containers"][0]["volumeMounts"].append(mount)
    failures = [f for f in examined(check_data, api, tmp_path) if f.verdict == "failed"]
    (failure,) = failures
    assert failure.detail == (
        "passerby-milvus-standalone: the vectors lie in an emptyDir (/var/lib/milvus/data) and are "
        "lost with the pod"
    )
    assert "docs/operations/volumes.md#vectors-in-an-emptydir" in failure.remedy


def test_redis_without_a_volume_is_found(tmp_path: Path) -> None:
    rendered = objects({"redis": {"persistence": {"enabled": False}}})
    findings = examined(check_data, KubernetesApi.installed(rendered), tmp_path)
    (failure,) = [finding for finding in findings if finding.verdict == "failed"]
    assert failure.detail.startswith("passerby-redis: the queue and the names lie in an emptyDir")
    assert "redis.persistence.enabled=true" in failure.remedy


STORES: dict[str, tuple[dict[str, str], str]] = {
    "etcd": ({"app.kubernetes.io/name": "etcd"}, "/bitnami/etcd"),
    "minio": ({"app": "minio"}, "/export"),
    "bookie": ({"app": "pulsarv3", "component": "bookie"}, "/pulsar/data/bookkeeper/ledgers"),
}


@pytest.mark.parametrize("store", STORES)
def test_the_stores_of_milvus_are_looked_at_too(store: str) -> None:
    labels, path = STORES[store]
    item = kubernetes_api.workload("redis", replicas=1, ready=1)
    item["metadata"]["labels"] = {"release": RELEASE}
    item["spec"]["template"]["metadata"]["labels"] = labels
    spec = item["spec"]["template"]["spec"]
    spec["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": path}]
    spec["volumes"] = [{"name": "data", "emptyDir": {}}]
    workload = Workload("statefulset", client.V1StatefulSet.from_dict(item))
    assert list(places(workload, {})) == [path]
    assert volume_of(workload, path) == "an emptyDir"
    spec["volumes"] = []
    item["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": {}}]
    workload = Workload("statefulset", client.V1StatefulSet.from_dict(item))
    assert volume_of(workload, path) == "a claim"
    assert volume_of(workload, "/elsewhere") == ""


def test_milvus_keeps_what_its_configuration_says() -> None:
    local: Values = {"common": {"storageType": "local"}}
    assert milvus_places("standalone", {}) == {}
    assert milvus_places("querynode", local) == {}
    assert list(milvus_places("standalone", local)) == ["/var/lib/milvus/data"]
    moved = merged(local, {"localStorage": {"path": "/data"}, "mq": {"type": "rocksmq"}})
    assert set(milvus_places("standalone", moved)) == {"/data", "/var/lib/milvus/rdb_data"}
    embedded = {"etcd": {"use": {"embed": True}}, "woodpecker": {"storage": {"type": "local"}}}
    assert set(milvus_places("standalone", embedded)) == {
        *("default.etcd", "/var/lib/milvus/woodpecker"),
    }


def test_a_claim_that_is_not_there_and_one_that_is_not_bound(tmp_path: Path) -> None:
    rendered = objects({"embedder": {"model": {"source": "claim", "existingClaim": "models"}}})
    api = KubernetesApi.installed(rendered)
    api.objects["persistentvolumeclaims"][0] = claim("data-passerby-redis-0", "Pending", None)
    api.objects["storageclasses"] = []
    failures = [f for f in examined(check_claims, api, tmp_path) if f.verdict == "failed"]
    assert [failure.detail for failure in failures] == [
        "data-passerby-redis-0: Pending: it names no class, and there is no default StorageClass "
        "(there are: none)",
        "models: this claim is missing",
    ]
    assert "kubectl get storageclass" in failures[0].remedy
    assert "`embedder.model.existingClaim`" in failures[1].remedy
