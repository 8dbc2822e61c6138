"""Values: wrong ones are refused by name, volumes and alerts are what the documents say."""

import copy
import json
import re
from collections.abc import Iterable

import helm_python as helm
import pytest

from deploy.helm.reference import CHART
from passerby.cluster.doctor.faults import FAULTS
from tests.support.chart import (
    NAMESPACE,
    SINGLE,
    Object,
    Values,
    files,
    named,
    objects,
    of_kind,
    workloads,
)
from tests.support.documents import OPERATIONS, REPOSITORY, anchors


@pytest.mark.parametrize(
    ("values", "named_in_message"),
    [
        ({"querry": {}}, "querry"),
        ({"query": {"replica": 2}}, "replica"),
        ({"query": {"replicas": "two"}}, "/query/replicas"),
        ({"query": {"replicas": -1}}, "/query/replicas"),
        ({"query": {"service": {"type": "ExternalName"}}}, "/query/service/type"),
        ({"query": {"resources": {"request": {}}}}, "request"),
        ({"embedder": {"gpu": {"enabled": "no"}}}, "/embedder/gpu/enabled"),
        ({"embedder": {"gpu": {"resource": "amd.com/gpu"}}}, "/embedder/gpu/resource"),
        ({"embedder": {"gpu": {"count": 0}}}, "/embedder/gpu/count"),
        (
            {"embedder": {"terminationGracePeriodSeconds": 10}},
            "/embedder/terminationGracePeriodSeconds",
        ),
        ({"embedder": {"tolerations": [{"keys": "gpu"}]}}, "/embedder/tolerations"),
        ({"embedder": {"affinity": {"pods": {}}}}, "/embedder/affinity"),
        ({"query": {"nodeSelector": {"gpu": True}}}, "/query/nodeSelector"),
        ({"query": {"extraVolumeMounts": [{"name": "a"}]}}, "/query/extraVolumeMounts"),
        ({"imagePullSecrets": ["pull"]}, "/imagePullSecrets"),
        ({"fullnameOverride": "People"}, "/fullnameOverride"),
        ({"embedder": {"model": {"source": "ftp"}}}, "/embedder/model/source"),
        ({"embedder": {"model": {"source": "claim"}}}, "embedder.model.existingClaim"),
        ({"embedder": {"model": {"source": "oci"}}}, "embedder.model.reference"),
        ({"embedder": {"model": {"source": "s3", "uri": "http://x"}}}, "/embedder/model/uri"),
        ({"embedder": {"model": {"names": ["../secrets"]}}}, "/embedder/model/names"),
        ({"embedder": {"settings": {"EMBEDDER_MAX_BATCHES": 1}}}, "EMBEDDER_MAX_BATCHES"),
        ({"embedder": {"settings": {"EMBEDDER_MAX_BATCH": 5000}}}, "EMBEDDER_MAX_BATCH"),
        ({"embedder": {"settings": {"EMBEDDER_PORT": 1}}}, "EMBEDDER_PORT"),
        ({"embedder": {"settings": {"MILVUS_INDEX": "HNSW"}}}, "MILVUS_INDEX"),
        ({"gallery": {"settings": {"MILVUS_INDEX": "BEST"}}}, "MILVUS_INDEX"),
        ({"settings": {"LOG_LEVEL": "loud"}}, "LOG_LEVEL"),
        ({"images": {"store": "s3"}}, "images.uri"),
        ({"images": {"claim": {"accessMode": "Any"}}}, "/images/claim/accessMode"),
        ({"redis": {"enabled": False}}, "externalRedis.url"),
        ({"redis": {"maxMemory": "80%"}}, "/redis/maxMemory"),
        (
            {"redis": {"enabled": False}, "externalRedis": {"url": "redis://:secret@host:6379"}},
            "/externalRedis/url",
        ),
        ({"externalRedis": {"url": "redis://host:6379"}}, "externalRedis.url"),
        ({"milvus": {"enabled": False}}, "externalMilvus.uri"),
        ({"milvus": {"enabled": "yes"}}, "/milvus/enabled"),
        ({"externalMilvus": {"uri": "http://host:19530"}}, "externalMilvus.uri"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs"),
        ({"networkPolicy": {"searchFrom": [{"pods": {}}]}}, "/networkPolicy/searchFrom"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_its_name(values: Values, named_in_message: str) -> None:
    with pytest.raises(helm.HelmError) as refusal:
        files(values)
    assert named_in_message in str(refusal.value)


@pytest.mark.parametrize("release", ["people.2", "2people", "people.", "people-v1.0"])
def test_a_release_whose_services_could_not_be_named_is_refused(release: str) -> None:
    """Helm takes these names, and the API server refuses the Services when the rest is made."""
    with pytest.raises(helm.HelmError) as refusal:
        files(release=release)
    assert "release name" in str(refusal.value)


@pytest.mark.parametrize("release", ["p", "people-2", "p2"])
def test_a_release_may_have_any_other_name(release: str) -> None:
    files(release=release)


def test_everything_of_the_milvus_chart_may_be_set() -> None:
    files({"milvus": {"queryNode": {"replicas": 3}, "extraConfigFiles": {"user.yaml": "a: 1"}}})


def test_one_value_moves_the_embedder_from_gpus_to_cpus() -> None:
    def pod(values: Values) -> tuple[str, Object, Object]:
        spec = named(objects(values), "Deployment", "passerby-embedder")["spec"]["template"]["spec"]
        return spec["containers"][0]["image"], spec["containers"][0]["resources"], spec

    image, resources, spec = pod({})
    assert image == "passerby/embedder:0.1.0-cuda"
    assert resources["limits"]["nvidia.com/gpu"] == 1
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    image, resources, spec = pod({"embedder": {"gpu": {"enabled": False}}})
    assert image == "passerby/embedder:0.1.0-cpu"
    assert "nvidia" not in json.dumps(spec)


def test_images_come_from_the_registry_that_is_named() -> None:
    images = {
        container["image"]
        for pod in workloads(objects(SINGLE["images-from-a-registry"]), ours=True)
        for container in pod.containers
    }
    assert images == {
        "registry.example/team/passerby/embedder:1.2.3-cuda",
        "registry.example/team/passerby/indexer:1.2.3",
        "registry.example/team/passerby/query:1.2.3",
        "valkey/valkey:9.0.1",
    }


# --- volumes ------------------------------------------------------------------------------------


# The values that docs/operations/volumes.md tells how to change, each with another.
OF_VOLUMES: dict[str, Values] = {
    "images.claim.accessMode": {"images": {"claim": {"accessMode": "ReadWriteMany"}}},
    "images.claim.storageClass": {"images": {"claim": {"storageClass": "fast"}}},
    "redis.persistence.enabled": {"redis": {"persistence": {"enabled": False}}},
    "redis.persistence.size": {"redis": {"persistence": {"size": "100Gi"}}},
    "redis.persistence.storageClass": {"redis": {"persistence": {"storageClass": "fast"}}},
}
# A claim may grow, so its `resources` are not among them.
IMMUTABLE = {
    "Deployment": {"selector"},
    "StatefulSet": {"selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"},
    "PersistentVolumeClaim": {
        *("accessModes", "storageClassName", "volumeMode", "volumeName", "selector", "dataSource"),
    },
}


def immutable(values: Values) -> dict[tuple[str, str], Object]:
    """(kind, name) -> the part of its spec that Kubernetes never changes."""
    return {
        (item["kind"], item["metadata"]["name"]): {
            key: value for key, value in item["spec"].items() if key in IMMUTABLE[item["kind"]]
        }
        for item in of_kind(objects(values), *IMMUTABLE)
        if "milvus" not in item["metadata"]["name"]
    }


def without(values: Values, names: Iterable[str]) -> Values:
    left: Values = copy.deepcopy(values)
    for name in names:
        *sections, last = name.split(".")
        node = left
        for section in sections:
            node = node.get(section, {})
        node.pop(last, None)
    return left


@pytest.mark.parametrize("values", SINGLE.values(), ids=SINGLE.keys())
def test_only_values_of_volumes_change_what_kubernetes_holds_immutable(values: Values) -> None:
    before, after = immutable({}), immutable(without(values, OF_VOLUMES))
    assert {key: before[key] for key in after} == after


@pytest.mark.parametrize(("name", "change"), OF_VOLUMES.items(), ids=OF_VOLUMES.keys())
def test_operations_tells_how_to_change_a_volume(name: str, change: Values) -> None:
    assert immutable(change) != immutable({})
    assert f"`{name}`" in (OPERATIONS / "volumes.md").read_text()


# --- alerts and documents -----------------------------------------------------------------------


def measured() -> dict[str, set[str]]:
    """The series that the services export -> their labels, read where they are defined."""
    definition = re.compile(
        r'\b(Counter|Gauge|Histogram)\(\s*"(passerby_\w+)",\s*"[^"]*"(?:,\s*\[([^\]]*)\])?'
    )
    endings = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_count", "_sum", "_bucket"]}
    return {
        name + ending: set(re.findall(r"\w+", labels))
        for path in (REPOSITORY / "services").rglob("*.py")
        for kind, name, labels in definition.findall(path.read_text())
        for ending in endings[kind]
    }


def test_alerts_ask_for_what_the_services_measure_and_name_a_heading() -> None:
    (rules,) = of_kind(objects(SINGLE["monitored"]), "PrometheusRule")
    series = measured()
    for rule in rules["spec"]["groups"][0]["rules"]:
        assert set(re.findall(r"\bpasserby_\w+", rule["expr"])) <= series.keys(), rule["alert"]
        for name, selectors in re.findall(r"\b(passerby_\w+)\{(.*?)\}", rule["expr"]):
            labels = set(re.findall(r"(\w+)=", selectors))
            assert labels <= series[name] | {"namespace", "service"}, rule["alert"]
        assert rule["expr"].count("(") == rule["expr"].count(")")
        page, _, heading = rule["annotations"]["remedy"].partition("#")
        assert (REPOSITORY / page).parent == OPERATIONS, rule["alert"]
        assert heading in anchors(REPOSITORY / page), rule["alert"]


def alert(name: str) -> Object:
    (rules,) = of_kind(objects(SINGLE["monitored"]), "PrometheusRule")
    found: Object
    (found,) = [rule for rule in rules["spec"]["groups"][0]["rules"] if rule["alert"] == name]
    return found


@pytest.mark.parametrize("name", ["PasserbySearchesFail", "PasserbySearchesSlow"])
def test_searches_of_the_page_count_as_those_through_grpc_do(name: str) -> None:
    expression = alert(name)["expr"]
    by_grpc = re.findall(r'passerby_rpc_seconds_\w+\{[^}]*method="Search"', expression)
    by_http = re.findall(r'passerby_http_seconds_\w+\{[^}]*route="/v1/search"', expression)
    assert len(by_grpc) == len(by_http) > 0
    served = (REPOSITORY / "services" / "query" / "http" / "api.py").read_text()
    assert 'web.post("/v1/search"' in served


def test_somebody_is_woken_when_no_query_pod_is_ready_or_there() -> None:
    rule = alert("PasserbyNotReady")
    assert rule["labels"]["severity"] == "critical"
    query = f'namespace="{NAMESPACE}",service="passerby-metrics"'
    assert rule["expr"] == f"(sum(passerby_ready{{{query}}}) or vector(0)) == 0"


def test_operations_and_doctor_name_values_and_objects_that_exist() -> None:
    operations = "\n".join(page.read_text() for page in sorted(OPERATIONS.glob("*.md")))
    doctor = "\n".join(fault.remedy for fault in FAULTS)
    readme = (CHART / "README.md").read_text()
    known = set(re.findall(r"^\| `([\w.]+)`", readme, re.MULTILINE))
    variables = re.findall(r"^\| `(\w+)` \| `([\w.]+)` ", readme, re.MULTILINE)
    known |= {f"{place}.{variable}" for variable, place in variables}
    used = re.findall(r"--set ['\"]?([A-Za-z][\w.]*)=", operations + doctor)
    assert len(used) > 20
    used += re.findall(r"`([a-z]\w+\.[\w.]+)`", doctor)
    for name in used:
        assert name in known or name.startswith("milvus."), name
    there = {(item["kind"].lower(), item["metadata"]["name"]) for item in objects()}
    # Of the Milvus chart, whose stand-in has none; and made by hand for `make manifests`.
    there |= {("service", "passerby-minio"), ("secret", "passerby-redis-password")}
    kinds = "deployment|statefulset|service|secret"
    named_there = re.findall(rf"\b({kinds})/(passerby-[a-z-]+)", operations)
    assert named_there
    assert set(named_there) <= there
