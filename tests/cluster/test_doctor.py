"""Every fault of the guide's table, provoked: doctor names it, and has the guide's remedy."""

import json
import time
from collections.abc import Iterator

import pytest

from passerby.cluster.doctor.faults import FAULTS
from tests.cluster.kubernetes import namespace
from tests.cluster.machine.shell import CommandFailed
from tests.cluster.release import LITTLE, Release
from tests.support.chart import merged

pytestmark = pytest.mark.long

PATIENCE_S = 180
# Of a cluster whose volumes allow two nodes nothing is ever attached twice, and a pod that is
# still terminating needs a node to be lost: the scenarios of nodes have that.
ELSEWHERE = {"Multi-Attach", "still terminating"}
SEEN: set[str] = set()


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    with namespace("faults") as cluster:
        release = Release(cluster, values=LITTLE)
        release.install()
        release.wait_until_ready()
        yield release


def change(release: Release, deployment: str, path: str, value: object) -> None:
    """Adds to a Deployment's pods, as an upgrade would that went wrong."""
    patch = [{"op": "add", "path": f"/spec/template/spec/{path}", "value": value}]
    name = f"deployment/{release.name}-{deployment}"
    release.cluster.kubectl("patch", name, "--type=json", "-p", json.dumps(patch))


def undo(release: Release, *deployments: str) -> None:
    for deployment in deployments:
        name = f"deployment/{release.name}-{deployment}"
        release.cluster.kubectl("rollout", "undo", name)
        release.cluster.rolled_out(name)


def assert_doctor_says(release: Release, faults: dict[str, str]) -> None:
    """faults: words of the guide's table -> what else the same finding says.

    Doctor is asked again until it says all of it: a container needs some restarts to be backed off.
    """
    end = time.monotonic() + PATIENCE_S
    while True:
        code, said = release.doctor()
        findings = [part.split("\n  -> ") for part in said.split("\n\n")[1:]]
        missing = [
            words
            for words, detail in faults.items()
            if not any(
                words in found[0] and detail in found[0] and remedy(words) in found[1]
                for found in findings
            )
        ]
        if not missing or time.monotonic() > end:
            assert not missing, said
            assert code == 1
            SEEN.update(faults)
            return


def remedy(words: str) -> str:
    (fault,) = [fault for fault in FAULTS if words in fault.words]
    return fault.remedy


def test_an_upgrade_that_went_wrong(release: Release) -> None:
    """Old pods go on serving beside the new ones, so the release itself is well."""
    change(release, "embedder", "containers/0/image", "passerby/embedder:9.9.9")
    zero = {"name": "QUERY_TIMEOUT_S", "value": "0"}
    change(release, "query", "containers/0/env/-", zero)
    absent = {"name": "absent", "persistentVolumeClaim": {"claimName": "absent"}}
    change(release, "indexer", "volumes/-", absent)
    assert_doctor_says(
        release,
        {
            "ImagePullBackOff": "passerby/embedder:9.9.9",
            "cannot start": "QUERY_TIMEOUT_S='0'",
            'persistentvolumeclaim "': '"absent" not found',
            "claim is missing": "absent",
        },
    )
    undo(release, "embedder", "query", "indexer")


def test_what_the_nodes_do_not_have(release: Release) -> None:
    gpu, cpu = (
        "containers/0/resources/limits/nvidia.com~1gpu",
        "containers/0/resources/requests/cpu",
    )
    change(release, "embedder", gpu, "1")
    change(release, "milvus-standalone", cpu, "200")
    change(release, "query", "nodeSelector", {"kubernetes.io/hostname": "nowhere"})
    assert_doctor_says(
        release,
        {
            "Insufficient nvidia.com/": "not scheduled",
            "Insufficient cpu": "milvus-standalone",
            "didn't match Pod's node affinity/selector": "not scheduled",
            "NOT_SERVING": "indexer",
            "cannot reach": "milvus",
        },
    )
    with pytest.raises(CommandFailed, match="its pods wait for milvus"):
        release.test()
    undo(release, "embedder", "milvus-standalone", "query")


def test_what_gives_up_and_what_was_forgotten(release: Release) -> None:
    device = {"name": "EMBEDDER_DEVICE", "value": "cuda"}
    change(release, "embedder", "containers/0/env/-", device)
    little = {"requests": {"memory": "24Mi"}, "limits": {"memory": "24Mi"}}
    change(release, "query", "containers/0/resources", little)
    release.cluster.kubectl("scale", f"deployment/{release.name}-indexer", "--replicas=0")
    assert_doctor_says(
        release,
        {
            "finds no CUDA device": "EMBEDDER_DEVICE=cuda",
            "OOMKilled": "query",
            "0 replicas are wanted": "indexer",
        },
    )
    undo(release, "embedder", "query")
    nowhere = {"name": "EMBEDDER_MODELS", "value": "/nowhere"}
    change(release, "embedder", "containers/0/env/-", nowhere)
    secret = {"name": "absent", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "x"}}}
    change(release, "query", "containers/0/env/-", secret)
    assert_doctor_says(
        release,
        {
            "a model directory holds": "/nowhere",
            "CreateContainerConfigError": 'secret "absent" not found',
        },
    )
    undo(release, "embedder", "query")
    release.cluster.kubectl("scale", f"deployment/{release.name}-indexer", "--replicas=1")


def test_a_password_that_redis_rejects_and_its_remedy(release: Release) -> None:
    another = json.dumps({"stringData": {"password": "another"}})
    release.cluster.kubectl("patch", f"secret/{release.name}-redis", "-p", another)
    services = [f"deployment/{release.name}-{name}" for name in ("indexer", "query")]
    release.cluster.kubectl("rollout", "restart", *services)
    assert_doctor_says(release, {"invalid username-password pair": "cannot reach redis"})
    redis = f"statefulset/{release.name}-redis"
    release.cluster.kubectl("rollout", "restart", redis)
    release.cluster.rolled_out(redis)
    release.cluster.kubectl("rollout", "restart", *services)
    release.wait_until_ready()
    code, said = release.doctor()
    assert code == 0, said


def test_vectors_that_would_go_with_milvus_pod(release: Release) -> None:
    """As the chart of version 0.1.0 had them."""
    change(release, "milvus-standalone", "volumes/-", {"name": "disk", "emptyDir": {}})
    mount = {"name": "disk", "mountPath": "/var/lib/milvus/data"}
    change(release, "milvus-standalone", "containers/0/volumeMounts/-", mount)
    assert_doctor_says(release, {"lie in an emptyDir": "the vectors"})


def test_a_token_that_milvus_does_not_accept(release: Release) -> None:
    """Before this, its pod was left with an emptyDir."""
    name = f"configmap/{release.name}-milvus"
    config = release.cluster.get(name)["data"]["user.yaml"]
    secured = config.replace("common:\n", "common:\n  security: {authorizationEnabled: true}\n")
    patch = json.dumps({"data": {"user.yaml": secured}})
    release.cluster.kubectl("patch", name, "-p", patch)
    release.cluster.kubectl("rollout", "restart", f"deployment/{release.name}-milvus-standalone")
    assert_doctor_says(release, {"missing authorization in header": "cannot reach milvus"})


def test_a_namespace_and_a_cluster_that_refuse() -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    with namespace("refused", labels) as cluster:
        quota = {"spec": {"hard": {"count/pods": "2"}}}
        kind = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}}
        cluster.apply({**kind, **quota})
        values = merged(
            LITTLE,
            {
                "images": {"claim": {"storageClass": "absent"}},
                "redis": {"persistence": {"enabled": False}},
            },
        )
        release = Release(cluster, values=values)
        release.install()
        assert_doctor_says(
            release,
            {
                "violates PodSecurity": "milvus-standalone",
                "exceeded quota": "its pods are refused",
                "there is no StorageClass": "passerby-images",
                "lie in an emptyDir": "the queue and the names",
            },
        )


def test_every_row_was_seen() -> None:
    """Of the words of each row one."""
    seen = SEEN | ELSEWHERE
    assert [fault.words for fault in FAULTS if not seen & set(fault.words)] == []
