"""What the chart makes, for every set of values: valid, complete, restricted, consistent."""

import json
from collections import Counter
from collections.abc import Iterator

import helm_python as helm
import jsonschema
import pytest

from passerby.cluster.job import PushJob, manifest
from tests.deploy.custom_kinds import SPECS
from tests.support.chart import (
    MATRIX,
    NAMESPACE,
    SINGLE,
    Object,
    Values,
    chart_folder,
    files,
    named,
    objects,
    objects_in,
    of_kind,
    selects,
    workloads,
)
from tests.support.kubernetes_schemas import assert_valid

every_set = pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
every_change = pytest.mark.parametrize("values", SINGLE.values(), ids=SINGLE.keys())


@every_change
def test_the_chart_lints(values: Values) -> None:
    report = helm.lint(chart_folder(), values, strict=True)
    assert report["messages"] == []


@every_set
def test_every_object_is_valid_in_the_three_latest_kubernetes(values: Values) -> None:
    for item in objects(values):
        if item["kind"] in SPECS:
            jsonschema.validate(item["spec"], SPECS[item["kind"]])
        else:
            assert_valid(item)


@every_change
@pytest.mark.parametrize("release", ["passerby", "milvus-people"])
def test_no_two_objects_collide(values: Values, release: str) -> None:
    keys = Counter((item["kind"], item["metadata"]["name"]) for item in objects(values, release))
    assert [key for key, count in keys.items() if count > 1] == []


def test_names_stay_within_the_limit_of_dns_labels() -> None:
    for item in objects(SINGLE["scaling"], "r" * 46):
        if item["metadata"].get("labels", {}).get("app.kubernetes.io/part-of"):
            assert len(item["metadata"]["name"]) <= 63


@every_change
def test_every_selector_selects_a_pod(values: Values) -> None:
    items = objects(values)
    pods = [pod.labels for pod in workloads(items, ours=True) + workloads(items)]
    # `passerby push --job` makes these.
    pods.append({**pods[0], "app.kubernetes.io/component": "push"})
    for item in items:
        spec = item.get("spec", {})
        if item["kind"] == "Service":
            selector = {"matchLabels": spec["selector"]}
        elif item["kind"] == "NetworkPolicy":
            selector = spec["podSelector"]
        elif item["kind"] in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
            selector = spec["selector"]
        else:
            continue
        assert any(selects(selector, labels) for labels in pods), item["metadata"]["name"]
        if item["kind"] in ("Deployment", "StatefulSet"):
            assert selects(selector, spec["template"]["metadata"]["labels"])


@every_change
def test_a_workload_selects_no_other_pods_than_its_own(values: Values) -> None:
    items = objects(values)
    for item in of_kind(items, "Deployment", "StatefulSet", "PodDisruptionBudget"):
        chosen = [pod for pod in workloads(items) if selects(item["spec"]["selector"], pod.labels)]
        assert [pod.name for pod in chosen] == [item["metadata"]["name"]]


@every_change
def test_every_port_that_is_named_is_open(values: Values) -> None:
    items = objects(values)
    pods = workloads(items)
    for service in of_kind(items, "Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        for pod in pods:
            if selects(selector, pod.labels):
                assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(pod.ports)
    for pod in pods:
        for container in pod.containers:
            numbers = {port["containerPort"] for port in container.get("ports", [])}
            opened = {port["name"] for port in container.get("ports", [])} | numbers
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                for action in ("grpc", "tcpSocket"):
                    if action in container.get(probe, {}):
                        assert container[probe][action]["port"] in opened


@every_change
def test_every_backend_and_target_that_is_named_exists(values: Values) -> None:
    items = objects(values)
    for ingress in of_kind(items, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                ports = named(items, "Service", backend["name"])["spec"]["ports"]
                assert backend["port"]["name"] in {port["name"] for port in ports}
    for route in of_kind(items, "HTTPRoute"):
        for backend in route["spec"]["rules"][0]["backendRefs"]:
            ports = named(items, "Service", backend["name"])["spec"]["ports"]
            assert backend["port"] in {port["port"] for port in ports}
    for scaler in of_kind(items, "HorizontalPodAutoscaler", "ScaledObject"):
        named(items, "Deployment", scaler["spec"]["scaleTargetRef"]["name"])
    for monitor in of_kind(items, "ServiceMonitor"):
        scraped = [
            service["metadata"]["name"]
            for service in of_kind(items, "Service")
            if selects(monitor["spec"]["selector"], service["metadata"].get("labels", {}))
            and "metrics" in {port["name"] for port in service["spec"]["ports"]}
        ]
        assert len(scraped) == 1
    for stateful in of_kind(items, "StatefulSet"):
        named(items, "Service", stateful["spec"]["serviceName"])


@every_change
def test_every_secret_config_claim_and_account_that_is_named_exists(values: Values) -> None:
    items = objects(values)
    # What the operator names in the values is theirs to make.
    theirs = {text for text in _texts(values) if text.startswith("my-")}
    existing = {(item["kind"], item["metadata"]["name"]) for item in items}
    for pod in workloads(items, ours=True):
        assert ("ServiceAccount", pod.spec["serviceAccountName"]) in existing
        for kind, name, key in _references(pod.spec):
            if name in theirs:
                continue
            assert (kind, name) in existing, f"{pod.name} names {kind} {name}"
            if key:
                assert key in named(items, kind, name)["data"]


def _references(spec: Object) -> Iterator[tuple[str, str, str]]:
    """(kind, name, key) of what a pod takes from other objects."""
    for volume in spec.get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], ""
        assert "secret" not in volume
        assert "configMap" not in volume
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        for source in container.get("envFrom", []):
            yield "ConfigMap", source["configMapRef"]["name"], ""
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                yield "Secret", reference["name"], reference["key"]


def _texts(values: object) -> Iterator[str]:
    if isinstance(values, dict):
        for value in values.values():
            yield from _texts(value)
    elif isinstance(values, str):
        yield values


@every_change
def test_every_volume_that_is_mounted_exists(values: Values) -> None:
    for item in of_kind(objects(values), "Deployment", "StatefulSet", "Pod"):
        spec = item["spec"] if item["kind"] == "Pod" else item["spec"]["template"]["spec"]
        templates = item["spec"].get("volumeClaimTemplates", [])
        volumes = {v["name"] for v in spec.get("volumes", [])}
        volumes |= {template["metadata"]["name"] for template in templates}
        mounted = {
            mount["name"]
            for container in [*(spec.get("initContainers") or []), *spec["containers"]]
            for mount in container.get("volumeMounts", [])
        }
        assert mounted == volumes, item["metadata"]["name"]


@every_change
def test_every_container_satisfies_the_restricted_standard(values: Values) -> None:
    """Kubernetes' pod security standard `restricted`, and a read-only root beyond it."""
    for pod in workloads(objects(values), ours=True):
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.spec.keys()
        assert pod.spec["automountServiceAccountToken"] is False
        assert pod.spec["enableServiceLinks"] is False
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        allowed = {"emptyDir", "persistentVolumeClaim", "image", "configMap", "secret"}
        for volume in pod.spec.get("volumes", []):
            assert volume.keys() - {"name"} <= allowed
            if "emptyDir" in volume and volume["name"] != "audit":  # the test's own
                assert volume["emptyDir"]["sizeLimit"], volume
        for container in pod.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert not any("hostPort" in port for port in container.get("ports", []))
            disk = "ephemeral-storage"
            assert container["resources"]["requests"].keys() >= {"cpu", "memory", disk}
            assert container["resources"]["limits"].keys() >= {"memory", disk}


@every_change
def test_the_last_words_of_a_container_are_seen_without_its_log(values: Values) -> None:
    for pod in workloads(objects(values), ours=True):
        for container in pod.containers:
            assert container["terminationMessagePolicy"] == "FallbackToLogsOnError", pod.name


@every_change
def test_no_object_but_a_secret_holds_a_password(values: Values) -> None:
    rendered = objects_in(files(values))
    secrets = [
        value
        for item in of_kind(rendered, "Secret")
        for value in item["data"].values()
        if len(value) > 8
    ]
    others = json.dumps([item for item in rendered if item["kind"] != "Secret"])
    assert not any(secret in others for secret in secrets)


def test_the_log_of_helms_test_is_still_there_when_helm_asks_for_it() -> None:
    pod = named(objects(), "Pod", "passerby-selftest")
    assert pod["metadata"]["annotations"] == {
        "helm.sh/hook": "test",
        "helm.sh/hook-delete-policy": "before-hook-creation",
    }


@every_change
def test_labels_are_what_the_doctor_looks_for(values: Values) -> None:
    items = objects(values)
    for item in of_kind(items, "Deployment", "StatefulSet"):
        labels = item["metadata"].get("labels", {})
        if labels.get("app.kubernetes.io/part-of") == "passerby":
            component = labels["app.kubernetes.io/component"]
            assert item["metadata"]["name"] == f"passerby-{component}"
            assert labels["app.kubernetes.io/instance"] == "passerby"
            assert labels["app.kubernetes.io/version"] == "0.1.0"
            pod = item["spec"]["template"]["metadata"]["labels"]
            assert pod["app.kubernetes.io/part-of"] == "passerby"
    assert {"embedder", "indexer", "query"} <= {
        item["metadata"].get("labels", {}).get("app.kubernetes.io/component")
        for item in of_kind(items, "Deployment")
    }


@every_change
def test_the_job_of_a_push_is_made_of_the_charts_indexer(values: Values) -> None:
    indexer = named(objects(values), "Deployment", "passerby-indexer")
    push = PushJob(["people"], [], gallery="default", workers=2, claim="archive")
    job = manifest(push, "passerby", NAMESPACE, indexer)
    assert_valid(job)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert "REDIS_URL" in {variable["name"] for variable in container["env"]}
    if values.get("networkPolicy", {}).get("enabled", True):
        policy = named(objects(values), "NetworkPolicy", "passerby-push")
        labels = job["spec"]["template"]["metadata"]["labels"]
        assert selects(policy["spec"]["podSelector"], labels)
