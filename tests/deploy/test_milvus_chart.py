"""Milvus' pods: what they must keep lies on a claim, and the stand-in is like the official chart.

MILVUS_CHART names a checkout of the official chart's repository; with it everything here is tried
with the official chart too, and the stand-in is compared with it.
"""

import os
from pathlib import Path, PurePosixPath

import helm_python as helm
import pytest
import yaml

from deploy.helm.manifests import PROFILES, values_of
from tests.support.chart import (
    SINGLE,
    Object,
    Values,
    Workload,
    files,
    merged,
    notes,
    objects_in,
    of_kind,
    workloads,
)
from tests.support.documents import OPERATIONS, anchors

# Container -> where it keeps what is nowhere else. Milvus' own paths depend on its settings.
DATA = {"redis": "/data", "etcd": "/bitnami/etcd", "minio": "/export"}
IMAGES = "/var/lib/passerby/images"
LOCAL_STORAGE, ROCKSMQ = "/var/lib/milvus/data", "/var/lib/milvus/rdb_data"
LAPTOP = SINGLE["profile-laptop-cpu"]
DISK: Values = {"milvus": {"standalone": {"disk": {"enabled": True}}}}

OFFICIAL = [
    Path(checkout) / "charts" / "milvus"
    for checkout in [os.environ.get("MILVUS_CHART")]
    if checkout
]
every_chart = pytest.mark.parametrize(
    "chart", [None, *OFFICIAL], ids=lambda chart: "official" if chart else "stand-in"
)
every_profile = pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.stem)


def kept_by(container: Object, pod: Workload, values: Values) -> set[str]:
    """The paths within the container whose loss would lose something."""
    name = container["name"]
    kept = {DATA[name]} if name in DATA else set()
    if pod.labels.get("passerby/images") == "mounted":
        kept.add(IMAGES)
    if name == "standalone":
        milvus = values.get("milvus", {})
        settings = yaml.safe_load(milvus.get("extraConfigFiles", {}).get("user.yaml", "")) or {}
        if settings.get("common", {}).get("storageType") == "local":
            kept.add(LOCAL_STORAGE)
        if settings.get("etcd", {}).get("use", {}).get("embed"):
            kept.add(settings["etcd"]["data"]["dir"])
        if milvus.get("standalone", {}).get("messageQueue") == "rocksmq":
            kept.add(ROCKSMQ)
    return kept


def volumes_at(path: str, container: Object) -> set[str]:
    """Names of the volumes that hold the path, and what lies below it."""
    mounts = {
        PurePosixPath(mount["mountPath"]): mount["name"] for mount in container["volumeMounts"]
    }
    over = [at for at in mounts if PurePosixPath(path).is_relative_to(at)]
    below = [at for at in mounts if at.is_relative_to(path)]
    return {mounts[at] for at in (*below, *sorted(over, key=lambda at: len(at.parts))[-1:])}


@every_chart
@pytest.mark.parametrize("values", SINGLE.values(), ids=SINGLE.keys())
def test_whatever_a_pod_must_keep_lies_on_a_claim(values: Values, chart: Path | None) -> None:
    for pod in workloads(objects_in(files(values, milvus=chart))):
        claims = set(pod.claims) | {
            volume["name"]
            for volume in pod.spec.get("volumes") or []
            if "persistentVolumeClaim" in volume
        }
        if pod.name == "passerby-redis" and values == SINGLE["redis-without-volume"]:
            continue
        for container in pod.spec["containers"]:
            for path in kept_by(container, pod, values):
                held = volumes_at(path, container)
                assert held, f"{pod.name} keeps {path} in its own layer"
                assert held <= claims, f"{pod.name} keeps {path} in {held - claims}"


def test_a_laptop_keeps_vectors_metadata_and_queue_of_milvus() -> None:
    """So that the test above has something to look at."""
    (pod,) = [p for p in workloads(objects_in(files(LAPTOP))) if "milvus" in p.name]
    (container,) = pod.containers
    kept = kept_by(container, pod, LAPTOP)
    assert kept == {LOCAL_STORAGE, ROCKSMQ, "/var/lib/milvus/etcd"}


@every_chart
def test_vectors_in_an_emptydir_are_refused_and_the_way_out_is_described(
    chart: Path | None,
) -> None:
    with pytest.raises(helm.HelmError, match=r"milvus\.standalone\.disk\.enabled") as refusal:
        files(merged(LAPTOP, DISK), milvus=chart)
    page, _, heading = str(refusal.value).rpartition("docs/operations/")[2].partition("#")
    assert heading in anchors(OPERATIONS / page)
    # What does not hold the vectors may lie there: without local storage it is a cache.
    files(DISK, milvus=chart)
    files(merged(LAPTOP, DISK, {"milvus": {"cluster": {"enabled": True}}}), milvus=chart)


@every_chart
@pytest.mark.parametrize(
    "values", [{}, SINGLE["milvus-cluster"], *map(values_of, PROFILES)], ids=str
)
def test_every_pod_requests_what_it_needs(values: Values, chart: Path | None) -> None:
    """One that requests nothing is the first to be evicted from a node without memory."""
    for pod in workloads(objects_in(files(values, milvus=chart))):
        for container, requests in pod.requests.items():
            assert requests.keys() >= {"cpu", "memory"}, f"{container} of {pod.name}"


@every_chart
@pytest.mark.parametrize("values", [LAPTOP, SINGLE["milvus-cluster"]], ids=["alone", "cluster"])
def test_milvus_is_asked_early_whether_it_is_ready_and_late_whether_it_lives(
    values: Values, chart: Path | None
) -> None:
    pods = [p for p in workloads(objects_in(files(values, milvus=chart))) if "milvus" in p.name]
    assert pods
    for container in (container for pod in pods for container in pod.containers):
        assert container["readinessProbe"]["initialDelaySeconds"] <= 10
        assert container["readinessProbe"]["periodSeconds"] <= 5
        assert container["livenessProbe"]["initialDelaySeconds"] >= 60


def of_milvus(items: list[Object]) -> dict[tuple[str, str], Object]:
    """(kind, name) -> the parts that the stand-in is to have like the official chart."""
    found = {}
    for item in of_kind(items, "Deployment", "Service", "PersistentVolumeClaim"):
        if item["metadata"]["labels"].get("app.kubernetes.io/name") != "milvus":
            continue
        # The Services of single roles, which nobody of ours asks, are left out.
        if item["kind"] == "Service" and item["metadata"]["name"] != "passerby-milvus":
            continue
        if item["kind"] == "Deployment":
            pod = item["spec"]["template"]
            # Of the configuration, which is abridged.
            del pod["metadata"]["annotations"]["checksum/config"]
            (container,) = pod["spec"]["containers"]
            container["volumeMounts"].sort(key=lambda mount: str(mount["mountPath"]))
            pod["spec"]["volumes"].sort(key=lambda volume: str(volume["name"]))
        found[item["kind"], item["metadata"]["name"]] = item
    return found


if OFFICIAL:

    @every_profile
    def test_the_stand_in_is_like_the_official_chart(profile: Path) -> None:
        values = values_of(profile)
        ours, theirs = (
            of_milvus(objects_in(files(values, milvus=chart))) for chart in (None, *OFFICIAL)
        )
        assert ours.keys() == theirs.keys()
        for key, item in theirs.items():
            assert ours[key] == item


def test_vectors_without_an_index_are_searched_whole_or_the_notes_say_otherwise() -> None:
    said = "Searches miss some of the images"
    assert [name for name, values in SINGLE.items() if said in notes(values)] == []
    own = {"milvus": {"extraConfigFiles": {"user.yaml": "log: {level: warn}"}}}
    assert said in notes(own)
