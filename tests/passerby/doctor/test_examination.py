"""The doctor at clusters in different states: what it finds, what it advises, its exit code."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from passerby.cli import main
from passerby.cluster.doctor.examination import examine
from passerby.cluster.doctor.finding import Finding
from passerby.cluster.doctor.peers import reasons_in
from tests.support.chart import objects
from tests.support.kubernetes_api import KubernetesApi, connected, node, pod, serving, workload

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
REJECTED = "invalid username-password pair or user is disabled."


@pytest.fixture
def api() -> KubernetesApi:
    """A healthy cluster, but for port-forwards."""
    return KubernetesApi.healthy()


def failures(api: KubernetesApi, folder: Path, release: str = "passerby") -> dict[str, Finding]:
    """The last failure of each check; no pod answers a port-forward."""
    with connected(api, folder, release) as cluster:
        return {f.check: f for f in examine(cluster) if f.verdict == "failed"}


def told(kubeconfig: Path) -> subprocess.CompletedProcess[str]:
    """What a person sees, and whether it ends well, in a process of its own."""
    command = [str(Path(sys.executable).with_name("passerby")), "doctor"]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_half_rolled_out_release_names_the_pod_and_the_reason(
    api: KubernetesApi, tmp_path: Path
) -> None:
    api.objects["deployments"][1] = workload("indexer", ready=1)
    api.objects["pods"][3] = pod("indexer", 1, waiting="ImagePullBackOff")
    problems = failures(api, tmp_path)
    assert problems["rollouts"].detail == (
        "deployment/passerby-indexer: 1 of 2 ready, 1 up to date; new pods are still to be made"
    )
    assert "rollout status deployment/passerby-indexer" in problems["rollouts"].remedy
    assert "ImagePullBackOff" in problems["pods"].detail


def test_the_indexer_at_zero_and_milvus_starting_are_named(
    api: KubernetesApi, tmp_path: Path
) -> None:
    rendered = KubernetesApi.installed(objects()).objects
    deployment, starting = (
        item
        for resource in ("deployments", "pods")
        for item in rendered[resource]
        if item["metadata"]["labels"].get("app.kubernetes.io/name") == "milvus"
    )
    deployment["status"] |= {"readyReplicas": None, "availableReplicas": None}
    starting["status"]["conditions"][0] |= {"status": "False", "message": "not yet"}
    api.objects["configmaps"] = rendered["configmaps"]
    api.objects["pods"].append(starting)
    api.objects["deployments"][1] = workload("indexer", replicas=0, ready=0)
    api.objects["deployments"].append(deployment)
    with connected(api, tmp_path) as cluster:
        problems = [f.detail for f in examine(cluster) if f.verdict == "failed"]
    assert problems[:3] == [
        "deployment/passerby-indexer: 0 replicas are wanted",
        "deployment/passerby-milvus-standalone: 0 of 1 ready, 1 up to date; not all of its pods "
        "are ready",
        "passerby-milvus-standalone-0: not ready: not yet",
    ]


def test_an_evicted_pod_beside_its_replacement_is_no_problem(
    api: KubernetesApi, tmp_path: Path
) -> None:
    evicted = pod("indexer", 7)
    evicted["status"] |= {"phase": "Failed", "reason": "Evicted", "containerStatuses": []}
    evicted["status"]["conditions"][0]["status"] = "False"
    api.objects["pods"].append(evicted)
    assert "pods" not in failures(api, tmp_path)


def test_a_cluster_without_such_gpus_gets_a_remedy(api: KubernetesApi, tmp_path: Path) -> None:
    api.objects["nodes"] = [node("cpu-node", 0)]
    api.objects["nodes"][0]["status"]["allocatable"]["nvidia.com/mig-1g.10gb"] = "7"
    api.objects["deployments"][0] = workload("embedder", ready=0, gpus=1)
    api.objects["pods"][0] = pod("embedder", 0, pending="0/1 nodes: 1 Insufficient nvidia.com/gpu.")
    problems = failures(api, tmp_path)
    assert problems["gpu"].detail == (
        "2 nvidia.com/gpu requested, 0 allocatable on 1 node (there are: nvidia.com/mig-1g.10gb)"
    )
    for check in ("gpu", "pods"):
        remedy = problems[check].remedy
        assert "embedder.gpu.resource" in remedy
        assert "embedder.maxSurge=0" in remedy
        assert "embedder.gpu.enabled=false" in remedy


@pytest.mark.parametrize(
    ("verb", "forbidden", "check"),
    [
        ("list", "deployments", "release"),
        ("list", "nodes", "gpu"),
        ("list", "persistentvolumeclaims", "claims"),
        ("create", "pods/portforward", "search"),
    ],
)
def test_a_missing_permission_is_named_with_the_command_that_shows_it(
    api: KubernetesApi, tmp_path: Path, verb: str, forbidden: str, check: str
) -> None:
    api.forbidden = {forbidden}
    assert f"kubectl auth can-i {verb} {forbidden}" in failures(api, tmp_path)[check].remedy


def test_a_release_that_does_not_exist_ends_the_checks(api: KubernetesApi, tmp_path: Path) -> None:
    problems = failures(api, tmp_path, release="other")
    assert list(problems) == ["release"]
    assert "helm list" in problems["release"].remedy


def logged(event: str, dependency: str, reason: str) -> str:
    """A line of a service's log."""
    return json.dumps({"event": event, "dependency": dependency, "reason": reason})


def test_what_cannot_be_reached_is_explained_by_the_log_of_who_waits() -> None:
    log = [
        "no JSON",
        "17",
        logged("still_waiting", "redis", "redis: away"),
        logged("still_waiting", "milvus", "milvus did not answer within 5 s"),
        logged("dependency_lost", "redis", f"redis: {REJECTED}"),
        logged("another_model_serves", "embedder", "not about reaching it"),
    ]
    assert reasons_in(log) == {"redis": REJECTED, "milvus": "milvus did not answer within 5 s"}


def test_a_dependency_that_a_service_cannot_reach_is_named_with_what_its_log_says(
    api: KubernetesApi, tmp_path: Path
) -> None:
    api.logs["passerby-indexer-0"] = logged("still_waiting", "redis", f"redis: {REJECTED}")
    servicer = health.HealthServicer()
    for name in ("embedder", "milvus", "redis"):
        servicer.set(name, SERVING if name == "embedder" else NOT_SERVING)
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    api.ports[50053] = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with serving(api, tmp_path) as kubeconfig:
            done = told(kubeconfig)
    finally:
        server.stop(None).wait()
    found, remedy = done.stdout.split("\n\n")[1].splitlines()
    assert found == f"dependencies: indexer cannot reach milvus, redis ({REJECTED})"
    assert remedy.startswith("  -> the Secret and Redis disagree")


def test_the_table_is_followed_by_a_line_and_a_remedy_for_each_failure(
    api: KubernetesApi, tmp_path: Path
) -> None:
    """And what Kubernetes says in lines becomes one; and a port-forward that breaks is one."""
    waiting = pod("indexer", 1, waiting="ImagePullBackOff")
    state = waiting["status"]["containerStatuses"][0]["state"]["waiting"]
    state["message"] = "a long message\nof two lines, " * 20
    api.objects["pods"][3] = waiting
    api.broken_tunnels = True
    with serving(api, tmp_path) as kubeconfig:
        done = told(kubeconfig)
    assert done.returncode == 1
    table, *rest = done.stdout.split("\n\n")
    assert max(map(len, table.splitlines())) < 140
    assert not any(line.endswith(" ") for line in table.splitlines())
    failure, remedy = rest[0].splitlines()
    assert failure.startswith("pods: passerby-indexer-1: indexer is waiting: ImagePullBackOff")
    assert failure.count("a long message of two lines, ") == 20
    assert remedy.startswith("  -> `image.registry`, `image.tag`")
    assert "indexer does not report its health" in done.stdout
    assert "Traceback" not in done.stderr


def test_no_cluster_is_one_line_and_exit_code_1(api: KubernetesApi, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["doctor", "--kubeconfig", str(tmp_path / "missing")])
    assert done.exit_code == 1
    assert "KUBECONFIG" in done.stderr
    assert len(done.output.strip().splitlines()) == 1
    with serving(api, tmp_path) as kubeconfig:
        pass
    done = CliRunner().invoke(main, ["doctor", "--json", "--kubeconfig", str(kubeconfig)])
    assert done.exit_code == 1
    assert "does not answer" in json.loads(done.stdout)[0]["remedy"]
