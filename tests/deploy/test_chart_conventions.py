"""What people expect of a chart: where pods run, what is added to them, what they are called."""

import json
import re
from collections import Counter
from typing import Any

import helm_python as helm
import pytest
import yaml

from deploy.helm.reference import CHART
from passerby.cluster.job import PushJob, manifest
from tests.support.chart import (
    CPU,
    NAMESPACE,
    SINGLE,
    Object,
    Values,
    files,
    merged,
    named,
    notes,
    objects,
    of_kind,
    workloads,
)
from tests.support.kubernetes_schemas import assert_valid

COMPONENTS = ("embedder", "indexer", "query", "redis", "selftest")
every_component = pytest.mark.parametrize("component", COMPONENTS)
DIGEST = f"sha256:{'0123456789abcdef' * 4}"


def pod_of(component: str, values: Values, name: str = "passerby") -> Object:
    """The pod of a component: its metadata and its spec."""
    kind = {"redis": "StatefulSet", "selftest": "Pod"}.get(component, "Deployment")
    item = named(objects(values), kind, f"{name}-{component}")
    pod: Object = item if kind == "Pod" else item["spec"]["template"]
    return pod


def container_of(pod: Object) -> Object:
    container: Object
    (container,) = pod["spec"]["containers"]
    return container


# --- what an operator does with values.yaml alone -------------------------------------------------


def test_embedders_are_placed_on_tainted_gpu_nodes() -> None:
    taint = {"key": "dedicated", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}
    values = {"embedder": {"nodeSelector": {"pool": "gpu"}, "tolerations": [taint]}}
    spec = pod_of("embedder", values)["spec"]
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert taint in spec["tolerations"]
    # The taint that GPU nodes usually have needs no value.
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in spec[
        "tolerations"
    ]
    assert "nodeSelector" not in pod_of("query", values)["spec"]
    assert "nvidia" not in json.dumps(pod_of("embedder", CPU))


def test_a_sidecar_shares_a_volume_with_the_service() -> None:
    mount = {"name": "audit", "mountPath": "/audit"}
    sidecar: Object = {"name": "shipper", "image": "shipper:1", "restartPolicy": "Always"}
    sidecar |= {"volumeMounts": [mount]}
    values = {
        "query": {
            "extraVolumes": [{"name": "audit", "emptyDir": {}}],
            "extraVolumeMounts": [mount],
            "extraInitContainers": [sidecar],
        }
    }
    pod = pod_of("query", values)
    assert {"name": "audit", "emptyDir": {}} in pod["spec"]["volumes"]
    assert mount in container_of(pod)["volumeMounts"]
    assert pod["spec"]["initContainers"] == [sidecar]
    assert_valid(named(objects(values), "Deployment", "passerby-query"))


OWN_KEY = {"existingSecret": "mine", "existingSecretPasswordKey": "redis-password"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"redis": {"existingSecret": "mine"}}, ["mine/password"] * 4),
        ({"redis": OWN_KEY}, ["mine/redis-password"] * 4),
        # The Secret that the chart makes has its own key.
        ({"redis": OWN_KEY | {"existingSecret": ""}}, ["passerby-redis/password"] * 4),
        (
            merged(SINGLE["external-redis"], {"externalRedis": OWN_KEY}),
            ["mine/redis-password"] * 3,
        ),
        (
            merged(SINGLE["nothing-bundled"], {"externalMilvus": {"existingSecretTokenKey": "t"}}),
            ["my-milvus/t"] * 2 + ["my-redis/password"] * 3,
        ),
    ],
    ids=str,
)
def test_a_password_is_in_a_secret_and_under_a_key_of_the_operators(
    values: Values, expected: list[str]
) -> None:
    items = objects(values)
    used = [
        "{name}/{key}".format(**variable["valueFrom"]["secretKeyRef"])
        for pod in workloads(items, ours=True)
        for container in pod.containers
        for variable in container.get("env", [])
        if "secretKeyRef" in variable.get("valueFrom", {}) and "AWS" not in variable["name"]
    ]
    assert sorted(used) == expected  # of redis, indexer, query and the test
    assert bool(of_kind(items, "Secret")) == ("passerby-redis/password" in expected)


@pytest.mark.parametrize(
    ("values", "prefix", "label"),
    [
        ({"fullnameOverride": "people"}, "people", "passerby"),
        ({"nameOverride": "finder"}, "passerby-finder", "finder"),
        # As the rule goes: a part of the release's name is not said twice.
        ({"nameOverride": "passer"}, "passerby", "passer"),
    ],
    ids=str,
)
def test_a_release_that_is_renamed_is_whole(values: Values, prefix: str, label: str) -> None:
    """The same objects as before, each name and each reference to it changed."""
    rest = {**SINGLE["monitored"], **SINGLE["ingress"], **SINGLE["gateway"]}
    rest |= {"query": {"autoscaling": {"enabled": True}}}
    ours = "alerts|dashboard|embedder|headless|images|indexer|metrics|push|query|redis|selftest"
    before, after = (_without_checksums(objects(v)) for v in (rest, {**rest, **values}))
    text = re.sub(rf"\bpasserby-({ours}|\([a-z|]+\))", rf"{prefix}-\1", json.dumps(before))
    text = text.replace(
        '"app.kubernetes.io/name": "passerby"', f'"app.kubernetes.io/name": "{label}"'
    )
    expected = json.loads(text)
    # The Service of that name belongs to the Milvus chart, the policy to us.
    named(expected, "NetworkPolicy", "passerby-milvus")["metadata"]["name"] = f"{prefix}-milvus"
    assert _sorted(after) == _sorted(expected)
    assert f"service/{prefix}-query" in notes(values)
    assert "--release passerby" in notes(values)


def _without_checksums(items: list[Object]) -> list[Object]:
    copied: list[Object] = json.loads(json.dumps(items))
    for item in copied:
        annotations = item["spec"].get("template", {}) if "spec" in item else {}
        annotations.get("metadata", {}).get("annotations", {}).pop("checksum/settings", None)
        if item["kind"] == "Secret":
            item["data"] = {}
    return copied


def _sorted(items: list[Object]) -> list[Object]:
    return sorted(items, key=lambda item: (item["kind"], item["metadata"]["name"]))


def test_a_release_whose_name_no_service_could_have_is_called_otherwise() -> None:
    with pytest.raises(helm.HelmError, match=r"milvus\.fullnameOverride takes its place"):
        files({"fullnameOverride": "people"}, "people.2")
    files({"fullnameOverride": "people", "milvus": {"fullnameOverride": "vectors"}}, "people.2")
    files({"fullnameOverride": "people", **SINGLE["external-milvus"]}, "people.2")


# --- the settings that all pods have --------------------------------------------------------------


AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]
        }
    }
}
# Value -> what it is set to.
OF_ALL: Values = {
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": AFFINITY,
    "podAnnotations": {"example/scrape": "no"},
    "podLabels": {"team": "search"},
    "extraEnv": [{"name": "TZ", "value": "UTC"}],
    "extraEnvFrom": [{"secretRef": {"name": "more"}}],
    "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    "extraInitContainers": [{"name": "first", "image": "first:1"}],
}
OF_SERVICES: Values = {"priorityClassName": "high", "terminationGracePeriodSeconds": 99}


@every_component
def test_every_pod_takes_what_its_component_is_given(component: str) -> None:
    given = OF_ALL | ({} if component == "selftest" else OF_SERVICES)
    pod = pod_of(component, {component: given})
    spec, container = pod["spec"], container_of(pod)
    assert spec["nodeSelector"] == given["nodeSelector"]
    assert given["tolerations"][0] in spec["tolerations"]
    assert spec["affinity"]["nodeAffinity"] == AFFINITY["nodeAffinity"]
    assert pod["metadata"]["annotations"]["example/scrape"] == "no"
    assert pod["metadata"]["labels"]["team"] == "search"
    assert container["env"][-1] == given["extraEnv"][0]
    assert container["envFrom"][-1] == given["extraEnvFrom"][0]
    assert given["extraVolumes"][0] in spec["volumes"]
    assert given["extraVolumeMounts"][0] in container["volumeMounts"]
    assert spec["initContainers"] == given["extraInitContainers"]
    for name in OF_SERVICES:
        assert spec.get(name) == given.get(name)
    items = objects({component: given})
    for item in of_kind(items, "Deployment", "StatefulSet", "Pod"):
        assert_valid(item)
    others = {c: pod_of(c, {component: given}) for c in COMPONENTS if c != component}
    assert others == {c: pod_of(c, {}) for c in others}


def test_no_pod_differs_from_the_others_in_the_names_of_its_settings() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    known = OF_ALL.keys() | {*OF_SERVICES, "topologySpreadConstraints", "tolerationSeconds"}
    for component in ("embedder", "indexer", "query"):
        assert known <= defaults[component].keys()
        assert "annotations" in defaults[component]["service"]
        assert defaults[component]["image"] == {"digest": ""}
    # Redis is one pod and does not leave its volume, and the test is one pod without a Service.
    assert OF_ALL.keys() | OF_SERVICES.keys() <= defaults["redis"].keys()
    assert OF_ALL.keys() <= defaults["selftest"].keys()


@pytest.mark.parametrize("component", ["embedder", "indexer", "query", "redis"])
def test_a_service_takes_annotations(component: str) -> None:
    values = {component: {"service": {"annotations": {"example/internal": "true"}}}}
    service = named(objects(values), "Service", f"passerby-{component}")
    assert service["metadata"]["annotations"] == {"example/internal": "true"}
    assert "annotations" not in named(objects(), "Service", f"passerby-{component}")["metadata"]


def test_an_affinity_of_the_operators_keeps_the_one_that_the_volume_needs() -> None:
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    theirs = {"topologyKey": "rack", "labelSelector": {"matchLabels": {"app": "cameras"}}}
    values = {"query": {"affinity": {"podAffinity": {required: [theirs]}, **AFFINITY}}}
    affinity = pod_of("query", values)["spec"]["affinity"]
    (ours,) = pod_of("query", {})["spec"]["affinity"]["podAffinity"][required]
    assert affinity == {"podAffinity": {required: [theirs, ours]}, **AFFINITY}


def test_constraints_on_the_spread_are_of_the_components_own_pods() -> None:
    mine = {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    pod = pod_of("query", {"query": {"topologySpreadConstraints": [mine]}})
    (constraint,) = pod["spec"]["topologySpreadConstraints"]
    labels = constraint["labelSelector"]["matchLabels"]
    ours = {"labelSelector": {"matchLabels": labels}, "matchLabelKeys": ["pod-template-hash"]}
    assert constraint == mine | ours
    assert labels.items() <= pod["metadata"]["labels"].items()
    assert labels["app.kubernetes.io/component"] == "query"
    own = {"labelSelector": {"matchLabels": {"app": "x"}}}
    pod = pod_of("query", {"query": {"topologySpreadConstraints": [mine | own]}})
    assert pod["spec"]["topologySpreadConstraints"] == [mine | own]


@pytest.mark.parametrize("component", ["embedder", "indexer", "query"])
@pytest.mark.parametrize(("seconds", "said"), [(None, [10, 10]), (0, [0, 0]), (45, [45, 45])])
def test_pods_leave_a_node_that_is_lost_within_seconds(
    component: str, seconds: int | None, said: list[int]
) -> None:
    values = {} if seconds is None else {component: {"tolerationSeconds": seconds}}
    lost = [
        (toleration["key"], toleration["tolerationSeconds"])
        for toleration in pod_of(component, values)["spec"]["tolerations"]
        if toleration["effect"] == "NoExecute"
    ]
    keys = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    assert lost == list(zip(keys, said, strict=True))


def test_kubernetes_decides_when_pods_leave_a_lost_node_if_the_value_is_null() -> None:
    spec = pod_of("query", {"query": {"tolerationSeconds": None}})["spec"]
    assert "tolerations" not in spec
    # Redis cannot start elsewhere while its volume is attached there.
    assert "tolerations" not in pod_of("redis", {})["spec"]


def test_common_labels_are_on_every_object_and_pod_and_in_no_selector() -> None:
    common = {"cost-center": "42", "app.kubernetes.io/name": "mine", "team": "all"}
    values = merged(SINGLE["scaling"], MONITORED_BY_A, {"commonLabels": common})
    values = merged(values, {"query": {"podLabels": {"team": "search"}}})
    selected = Counter[str]()
    for item in objects(values):
        labels = item["metadata"].get("labels", {})
        if labels.get("app.kubernetes.io/part-of") != "passerby":
            continue
        assert labels["cost-center"] == "42", item["metadata"]["name"]
        assert labels["app.kubernetes.io/name"] == "passerby"
        selector = json.dumps(item.get("spec", {}).get("selector", {}))
        assert "cost-center" not in selector
        selected[item["kind"]] += 1
    assert len(selected) > 10
    assert pod_of("query", values)["metadata"]["labels"]["team"] == "search"
    assert pod_of("indexer", values)["metadata"]["labels"]["team"] == "all"


MONITORED_BY_A = SINGLE["monitored"]


def test_an_image_is_taken_by_its_digest() -> None:
    values = {c: {"image": {"digest": DIGEST}} for c in ("embedder", "query")}
    assert container_of(pod_of("embedder", values))["image"] == (
        f"passerby/embedder:0.1.0-cuda@{DIGEST}"
    )
    # The test runs in the query's image.
    for component in ("query", "selftest"):
        image = container_of(pod_of(component, values))["image"]
        assert image == f"passerby/query:0.1.0@{DIGEST}"
    assert container_of(pod_of("indexer", values))["image"] == "passerby/indexer:0.1.0"
    with pytest.raises(helm.HelmError, match="/query/image/digest"):
        files({"query": {"image": {"digest": "sha256:12"}}})


def test_a_volume_of_the_operators_takes_the_place_of_redis_own() -> None:
    values = {"redis": {"persistence": {"existingClaim": "kept"}}}
    spec = named(objects(values), "StatefulSet", "passerby-redis")["spec"]
    assert "volumeClaimTemplates" not in spec
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "kept"}}
    assert spec["template"]["spec"]["volumes"] == [claim]


def test_the_pods_of_a_push_run_where_the_indexer_may() -> None:
    given: Values = {**OF_ALL, "priorityClassName": "high"}
    values = {"indexer": given, "nameOverride": "finder", "imagePullSecrets": [{"name": "pull"}]}
    indexer = named(objects(values), "Deployment", "passerby-finder-indexer")
    push = PushJob(["people"], [], gallery="default", workers=2, claim="archive")
    job = manifest(push, "passerby", NAMESPACE, indexer)
    assert_valid(job)
    template: Any = job["spec"]["template"]
    of_indexer = indexer["spec"]["template"]["spec"]
    for name in ("nodeSelector", "tolerations", "priorityClassName", "imagePullSecrets"):
        assert template["spec"][name] == of_indexer[name]
    assert template["spec"]["containers"][0]["envFrom"] == given["extraEnvFrom"]
    # Where the volume of images is mounted is no matter of theirs.
    assert "affinity" not in template["spec"]
    assert "passerby/images" not in template["metadata"]["labels"]
    assert template["metadata"]["labels"]["team"] == "search"
    policy = named(objects(values), "NetworkPolicy", "passerby-finder-push")
    selector = policy["spec"]["podSelector"]["matchLabels"]
    assert selector.items() <= template["metadata"]["labels"].items()


# --- names of the last version ------------------------------------------------------------------


RENAMED: dict[str, str] = yaml.safe_load((CHART / "renamed.yaml").read_text())
TOLERATION = {"key": "pool", "operator": "Exists"}
GPU = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
OTHER_CLAIM = {"source": "claim", "existingClaim": "other"}
# Old name -> what it was set to, what the new one is set to, and what both need beside them.
CHANGES: dict[str, tuple[Any, Any, Values]] = {
    "image.pullSecrets": (["my-pull"], [{"name": "my-pull"}], {}),
    "embedder.drainSeconds": (120, 130, {}),
    "embedder.gpu.nodeSelector": ({"a": "b"}, {"a": "b"}, {}),
    "embedder.gpu.tolerations": ([GPU, TOLERATION], [TOLERATION], {}),
    "embedder.model.claim": ("my-models", "my-models", {"embedder": {"model": OTHER_CLAIM}}),
    "indexer.drainSeconds": (120, 130, {}),
    "query.drainSeconds": (120, 130, {}),
    "query.serviceType": ("NodePort", "NodePort", {}),
    "images.claim.existing": ("my-images", "my-images", {}),
    "s3.secret": ("my-s3", "my-s3", SINGLE["s3-of-aws"]),
    "redis.secret": ("my-redis", "my-redis", {}),
    "externalRedis.secret": ("my-redis", "my-redis", SINGLE["external-redis-without-password"]),
    "externalMilvus.secret": ("my-milvus", "my-milvus", {}),
}


def at(name: str, value: Any) -> Values:
    for section in reversed(name.split(".")):
        value = {section: value}
    values: Values = value
    return values


@pytest.mark.parametrize("old", RENAMED)
def test_a_value_is_still_taken_by_its_old_name(old: str) -> None:
    before, now, beside = CHANGES[old]
    old_values = merged(beside, at(old, before))
    new_values = merged(beside, at(RENAMED[old], now))
    assert _without_checksums(objects(old_values)) == _without_checksums(objects(new_values))
    assert _without_checksums(objects(old_values)) != _without_checksums(objects(beside))
    assert f"{old} is now {RENAMED[old]}" in notes(old_values)
    assert "is now" not in notes(new_values)


def test_reusing_old_values_alone_is_refused_with_the_option_that_works() -> None:
    """--reuse-values takes the old chart's defaults along, in which every new value is missing."""
    with pytest.raises(helm.HelmError, match="--reset-then-reuse-values"):
        files({"selftest": None})
