"""Procedures of the operations guide, by its very lines, while searches go on."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import client_pod
from tests.cluster.guide import NAMESPACE, desk, follow
from tests.cluster.kubernetes import Kubernetes, Object, namespace
from tests.cluster.machine.shell import wait_for
from tests.cluster.people import GALLERY, People, claim, finished, push, store
from tests.cluster.records import Record
from tests.cluster.release import LITTLE, Release
from tests.cluster.search_load import SearchLoad, searched
from tests.support.chart import merged
from tests.support.models import make_model
from tests.support.processes import REPOSITORY

pytestmark = pytest.mark.long

TWO = merged(LITTLE, {"embedder": {"replicas": 2}, "query": {"replicas": 2}})


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the guide's commands are typed."""
    return desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def guided(people: People) -> Iterator[Release]:
    with namespace(NAMESPACE) as cluster:
        release = Release(cluster, values=TWO)
        release.install()
        release.wait_until_ready()
        store(people, release)
        finished(release, push(release))
        yield release


def unpack(cluster: Kubernetes, folder: Path, pod: str, place: str) -> None:
    """Copies a folder into a pod, as its user."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(folder, arcname=".")
    tar_there = ["tar", "-x", "-C", place, "--no-same-owner", "--no-overwrite-dir", "-m"]
    command = ["kubectl", "-n", cluster.namespace, "exec", "-i", pod, "--", *tar_there]
    subprocess.run(command, input=packed.getvalue(), check=True)


def copying(release: Release, *mounts: tuple[str, str]) -> Object:
    """The pod `copy` of the guide, which mounts (claim, place)."""
    pod = client_pod.manifest(release, "copy")
    spec = pod["spec"]
    spec["volumes"] = [
        {"name": name, "persistentVolumeClaim": {"claimName": name}} for name, _ in mounts
    ]
    spec["containers"][0]["volumeMounts"] = [
        {"name": name, "mountPath": place} for name, place in mounts
    ]
    return pod


def test_redis_password(guided: Release, table: Path, record: Record) -> None:
    """Searches fail for as long as Redis restarts, and in no other step."""
    before = password(guided)
    with SearchLoad(guided, GALLERY) as load:
        follow("secrets.md", "Redis", table)
        guided.wait_until_ready()
        searched(guided, GALLERY)
    record.load(load)
    assert password(guided) != before
    assert len(load.outages) <= 1, load.said
    guided.upgrade()
    assert "3 hits by image" in guided.test()


def password(release: Release) -> str:
    return str(release.cluster.get(f"secret/{release.name}-redis")["data"]["password"])


def test_images_to_many_nodes(guided: Release, table: Path, record: Record) -> None:
    cluster = guided.cluster
    node = guided.pods_of("query")[0]["spec"]["nodeName"]
    pod = copying(guided, ("passerby-images", "/old"), ("images-2", "/new"))
    pod["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
    cluster.apply(claim("images-2"), pod)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/copy", "--timeout=120s")
    with SearchLoad(guided, GALLERY) as load:
        cluster.kubectl("scale", "deployment/passerby-indexer", "--replicas=0")
        follow("volumes.md", "Images", table)
        guided.wait_until_ready()
    record.load(load)
    cluster.kubectl("delete", "pod", "copy")
    assert load.failed == 0, load.said
    images = {"claim": {"existingClaim": "images-2", "accessMode": "ReadWriteMany"}}
    guided.values = merged(guided.values, {"images": images})
    held = cluster.kubectl("exec", "deployment/passerby-query", "--", "sh", "-c", COUNT)
    assert int(held) > 0


COUNT = "find /var/lib/passerby/images -type f | wc -l"


def test_model_swap(
    guided: Release, table: Path, people: People, record: Record, tmp_path: Path
) -> None:
    """`selftest`, which has no images, does not hold the others up."""
    cluster = guided.cluster
    shutil.copytree(REPOSITORY / "models" / "demo", tmp_path / "people-1")
    make_model(tmp_path / "people-2", seed=2)
    shutil.copytree(tmp_path / "people-2", table / "people-2")
    cluster.apply(claim("models"), copying(guided, ("models", "/models")))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/copy", "--timeout=120s")
    unpack(cluster, tmp_path, "copy", "/models")
    cluster.kubectl("delete", "pod", "copy")
    versions = {gallery["model"] for gallery in guided.galleries()}
    with SearchLoad(guided, GALLERY) as load:
        follow("model-swap.md", "1. Serve both", table)
        job = push(guided)
        finished(guided, job)
        wait_for(lambda: guided.gallery(GALLERY)["model"] not in versions, "the switch")
    record.load(load)
    held = guided.held(GALLERY)
    record.held(held, people.filenames)
    assert (held.lost(people.filenames), held.double) == (0, 0)
    assert load.failed == 0, load.said


def test_removing_everything(guided: Release, table: Path) -> None:
    follow("uninstall.md", "Uninstall", table)
    left = guided.cluster.get("pvc")["items"] + guided.cluster.get("secrets")["items"]
    names = {item["metadata"]["name"] for item in left}
    assert names <= {"archive", "images-2", "models"}, "only what was made by hand is left"
