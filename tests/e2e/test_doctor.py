"""The doctor at clusters in different states: what it finds, what it advises, its exit code."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from deploy.local.stack import Stack
from tests.support.kubernetes_api import KubernetesApi, node, pod, serving, workload

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def api(stack: Stack) -> KubernetesApi:
    """A healthy cluster whose query pods are the running query service."""
    api = KubernetesApi.healthy()
    api.ports |= {50052: stack.ports.query, 50053: stack.ports.indexer}
    return api


def doctor(kubeconfig: Path, *options: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, findings and what was said on stderr."""
    command = [str(Path(sys.executable).with_name("passerby")), "doctor", "--json", *options]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, json.loads(done.stdout or "[]"), done.stderr


def failed(findings: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in findings if row["verdict"] == "failed"}


def test_a_healthy_release_passes_with_a_search_through_the_port_forward(
    api: KubernetesApi, people_gallery: str, tmp_path: Path
) -> None:
    with serving(api, tmp_path) as kubeconfig:
        code, findings, said = doctor(kubeconfig)
    assert code == 0, said + str(findings)
    assert failed(findings) == {}
    searched = [row["detail"] for row in findings if row["check"] == "search"]
    assert any(detail.startswith(f"{people_gallery}: 1200 images") for detail in searched)
    assert {row["check"] for row in findings} >= {
        *("release", "rollouts", "pods", "gpu", "dependencies", "queue"),
    }


def test_the_table_for_people_says_the_same(
    api: KubernetesApi, people_gallery: str, tmp_path: Path
) -> None:
    with serving(api, tmp_path) as kubeconfig:
        command = [str(Path(sys.executable).with_name("passerby")), "doctor"]
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "COLUMNS": "200"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert f"{people_gallery}: 1200 images" in done.stdout


def test_the_table_is_followed_by_a_line_and_a_remedy_for_each_failure(
    api: KubernetesApi, tmp_path: Path
) -> None:
    api.objects["pods"][3] = pod("indexer", 1, waiting="ImagePullBackOff")
    with serving(api, tmp_path) as kubeconfig:
        command = [str(Path(sys.executable).with_name("passerby")), "doctor"]
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    table, failure, remedy = done.stdout.rstrip("\n").rsplit("\n", 2)
    assert table.endswith("\n"), "an empty line follows the table"
    assert failure.startswith("pods: passerby-indexer-1: indexer is waiting: ImagePullBackOff")
    assert remedy.startswith("  -> `kubectl -n people describe pod passerby-indexer-1`")


def test_a_half_rolled_out_release_names_the_pod_and_the_reason(
    api: KubernetesApi, tmp_path: Path
) -> None:
    api.objects["deployments"][1] = workload("indexer", ready=1)
    api.objects["pods"][3] = pod("indexer", 1, waiting="ImagePullBackOff")
    with serving(api, tmp_path) as kubeconfig:
        code, findings, _ = doctor(kubeconfig)
    assert code == 1
    problems = failed(findings)
    assert problems["rollouts"]["detail"] == (
        "deployment/passerby-indexer: 1 of 2 ready, 1 up to date"
    )
    assert "rollout status deployment/passerby-indexer" in problems["rollouts"]["remedy"]
    assert "ImagePullBackOff" in problems["pods"]["detail"]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            'starting\n{"reason": "\\"cuda\\" finds no CUDA device", "event": "cannot_start"}\n',
            '"cuda" finds no CUDA device',
        ),
        ("Traceback (most recent call last):\nMemoryError\n", "MemoryError"),
    ],
)
def test_a_pod_that_gives_up_again_and_again_is_shown_with_its_own_reason(
    api: KubernetesApi, tmp_path: Path, message: str, said: str
) -> None:
    api.objects["pods"][0] = pod("embedder", 0, waiting="CrashLoopBackOff", said=message)
    with serving(api, tmp_path) as kubeconfig:
        code, findings, _ = doctor(kubeconfig)
    assert code == 1
    assert failed(findings)["pods"]["detail"].endswith(f"; it said: {said}")


def test_an_evicted_pod_beside_its_replacement_is_no_problem(
    api: KubernetesApi, people_gallery: str, tmp_path: Path
) -> None:
    evicted = pod("indexer", 7)
    evicted["status"] |= {"phase": "Failed", "reason": "Evicted", "containerStatuses": []}
    evicted["status"]["conditions"][0]["status"] = "False"
    api.objects["pods"].append(evicted)
    with serving(api, tmp_path) as kubeconfig:
        code, findings, _ = doctor(kubeconfig)
    assert (code, failed(findings)) == (0, {}), people_gallery


def test_a_cluster_without_gpus_gets_a_remedy(api: KubernetesApi, tmp_path: Path) -> None:
    api.objects["nodes"] = [node("cpu-node", 0)]
    api.objects["deployments"][0] = workload("embedder", ready=0, gpus=1)
    api.objects["pods"][0] = pod("embedder", 0, pending="0/1 nodes: Insufficient nvidia.com/gpu")
    with serving(api, tmp_path) as kubeconfig:
        code, findings, _ = doctor(kubeconfig)
    assert code == 1
    assert failed(findings)["gpu"]["detail"] == (
        "2 nvidia.com/gpu requested, 0 allocatable on 1 node"
    )
    assert "gpu.enabled=false" in failed(findings)["gpu"]["remedy"]
    assert "Insufficient nvidia.com/gpu" in failed(findings)["pods"]["detail"]


@pytest.mark.parametrize(
    ("forbidden", "check"),
    [("deployments", "release"), ("nodes", "gpu"), ("persistentvolumeclaims", "redis persistence")],
)
def test_a_missing_permission_is_named_with_the_command_that_shows_it(
    api: KubernetesApi, tmp_path: Path, forbidden: str, check: str
) -> None:
    api.forbidden = {forbidden}
    with serving(api, tmp_path) as kubeconfig:
        code, findings, _ = doctor(kubeconfig)
    assert code == 1
    assert f"kubectl auth can-i list {forbidden}" in failed(findings)[check]["remedy"]


def test_without_permission_to_forward_ports_the_search_fails_with_a_reason(
    api: KubernetesApi, tmp_path: Path
) -> None:
    api.forbidden = {"pods/portforward"}
    with serving(api, tmp_path) as kubeconfig:
        code, findings, _ = doctor(kubeconfig)
    assert code == 1
    assert list(failed(findings)) == ["dependencies", "search"]
    assert "kubectl auth can-i create pods/portforward" in failed(findings)["search"]["remedy"]


def test_a_dependency_that_a_service_cannot_reach_is_named(
    api: KubernetesApi, tmp_path: Path
) -> None:
    servicer = health.HealthServicer()
    for name in ("embedder", "milvus", "redis"):
        servicer.set(name, NOT_SERVING if name == "milvus" else SERVING)
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    api.ports[50053] = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with serving(api, tmp_path) as kubeconfig:
            code, findings, _ = doctor(kubeconfig)
    finally:
        server.stop(None).wait()
    assert code == 1
    assert failed(findings)["dependencies"]["detail"] == "indexer cannot reach milvus"


def test_an_unbound_volume_is_found(api: KubernetesApi, tmp_path: Path) -> None:
    api.objects["persistentvolumeclaims"][0]["status"]["phase"] = "Pending"
    with serving(api, tmp_path) as kubeconfig:
        code, findings, _ = doctor(kubeconfig)
    assert code == 1
    assert "data-passerby-redis-0" in failed(findings)["redis persistence"]["detail"]


def test_a_release_that_does_not_exist_ends_the_checks(api: KubernetesApi, tmp_path: Path) -> None:
    with serving(api, tmp_path) as kubeconfig:
        code, findings, _ = doctor(kubeconfig, "--release", "other")
    assert code == 1
    assert [row["check"] for row in findings] == ["release"]
    assert "helm list" in findings[0]["remedy"]


def test_a_missing_kubeconfig_is_one_line(tmp_path: Path) -> None:
    code, findings, said = doctor(tmp_path / "missing")
    assert code == 1
    assert findings == []
    assert "KUBECONFIG" in said
    assert len(said.strip().splitlines()) == 1


def test_a_cluster_that_does_not_answer_is_a_failed_check(
    api: KubernetesApi, tmp_path: Path
) -> None:
    with serving(api, tmp_path) as kubeconfig:
        pass
    code, findings, _ = doctor(kubeconfig)
    assert code == 1
    assert "does not answer" in findings[0]["remedy"]
