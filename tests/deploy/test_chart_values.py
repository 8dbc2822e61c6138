"""Values: wrong ones are refused by name, upgrades keep what must stay, profiles make manifests."""

import base64
import copy
import functools
import json
import re
import shutil
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import helm_python as helm
import pytest
import yaml
from click.testing import CliRunner

import deploy.helm.__main__ as commands
from deploy.helm.dependency import NoMilvusChart, fetch, is_there
from deploy.helm.manifests import PROFILES, manifests, values_of
from deploy.helm.reference import CHART
from tests.deploy.chart import (
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
from tests.support.documents import OPERATIONS, REPOSITORY, anchors


@pytest.mark.parametrize(
    ("values", "named_in_message"),
    [
        ({"querry": {}}, "querry"),
        ({"query": {"replica": 2}}, "replica"),
        ({"query": {"replicas": "two"}}, "/query/replicas"),
        ({"query": {"replicas": -1}}, "/query/replicas"),
        ({"query": {"serviceType": "ExternalName"}}, "/query/serviceType"),
        ({"query": {"resources": {"request": {}}}}, "request"),
        ({"embedder": {"gpu": {"enabled": "no"}}}, "/embedder/gpu/enabled"),
        ({"embedder": {"gpu": {"resource": "amd.com/gpu"}}}, "/embedder/gpu/resource"),
        ({"embedder": {"gpu": {"count": 0}}}, "/embedder/gpu/count"),
        ({"embedder": {"drainSeconds": 0}}, "/embedder/drainSeconds"),
        ({"embedder": {"model": {"source": "ftp"}}}, "/embedder/model/source"),
        ({"embedder": {"model": {"source": "claim"}}}, "/embedder/model/claim"),
        ({"embedder": {"model": {"source": "oci"}}}, "/embedder/model/reference"),
        ({"embedder": {"model": {"source": "s3", "uri": "http://x"}}}, "/embedder/model/uri"),
        ({"embedder": {"model": {"names": ["../secrets"]}}}, "/embedder/model/names"),
        ({"embedder": {"settings": {"EMBEDDER_MAX_BATCHES": 1}}}, "EMBEDDER_MAX_BATCHES"),
        ({"embedder": {"settings": {"EMBEDDER_MAX_BATCH": 5000}}}, "EMBEDDER_MAX_BATCH"),
        ({"embedder": {"settings": {"EMBEDDER_PORT": 1}}}, "EMBEDDER_PORT"),
        ({"embedder": {"settings": {"MILVUS_INDEX": "HNSW"}}}, "MILVUS_INDEX"),
        ({"gallery": {"settings": {"MILVUS_INDEX": "BEST"}}}, "MILVUS_INDEX"),
        ({"settings": {"LOG_LEVEL": "loud"}}, "LOG_LEVEL"),
        ({"images": {"store": "s3"}}, "/images/uri"),
        ({"images": {"claim": {"accessMode": "Any"}}}, "/images/claim/accessMode"),
        ({"redis": {"enabled": False}}, "/externalRedis/url"),
        ({"redis": {"maxMemory": "80%"}}, "/redis/maxMemory"),
        (
            {"redis": {"enabled": False}, "externalRedis": {"url": "redis://:secret@host:6379"}},
            "/externalRedis/url",
        ),
        ({"externalRedis": {"url": "redis://host:6379"}}, "/externalRedis/url"),
        ({"milvus": {"enabled": False}}, "/externalMilvus/uri"),
        ({"milvus": {"enabled": "yes"}}, "/milvus/enabled"),
        ({"externalMilvus": {"uri": "http://host:19530"}}, "/externalMilvus/uri"),
        ({"httpRoute": {"enabled": True}}, "/httpRoute/parentRefs"),
        ({"networkPolicy": {"searchFrom": [{"pods": {}}]}}, "/networkPolicy/searchFrom"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_its_name(values: Values, named_in_message: str) -> None:
    with pytest.raises(helm.HelmError) as refusal:
        files(values)
    assert named_in_message in str(refusal.value)


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


# --- upgrades -----------------------------------------------------------------------------------


@pytest.mark.parametrize("values", SINGLE.values(), ids=SINGLE.keys())
def test_an_upgrade_changes_nothing_but_what_was_changed(values: Values) -> None:
    def without_secrets(rendered: dict[str, str]) -> list[Object]:
        return [item for item in objects_in(rendered) if item["kind"] != "Secret"]

    assert without_secrets(files(values)) == without_secrets(files(values, is_upgrade=True))


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
    def affinity(values: Values) -> list[object]:
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


def test_pods_that_cannot_move_do_not_hold_up_the_draining_of_their_node() -> None:
    def budgets(values: Values) -> list[str]:
        return [
            item["metadata"]["name"] for item in of_kind(objects(values), "PodDisruptionBudget")
        ]

    assert budgets({}) == ["passerby-embedder"]
    for name in ("images-on-many-nodes", "s3-images", "no-images"):
        assert budgets(SINGLE[name]) == [f"passerby-{s}" for s in ("embedder", "indexer", "query")]
    assert budgets(SINGLE["no-budgets"]) == []


def test_a_release_can_be_installed_without_an_indexer_to_be_restored_first() -> None:
    scaled_later: Values = {"indexer": {"replicas": 0, "autoscaling": {"enabled": False}}}
    for profile in PROFILES:
        items = objects(merged(values_of(profile), scaled_later))
        assert named(items, "Deployment", "passerby-indexer")["spec"]["replicas"] == 0
        assert not of_kind(items, "ScaledObject")


class Cluster(BaseHTTPRequestHandler):
    """The Kubernetes API as far as Helm's `lookup` of one Secret goes."""

    secret: ClassVar[Object] = {}

    def do_GET(self) -> None:
        api = {"kind": "APIVersions", "versions": ["v1"]}
        kinds = {
            "kind": "APIResourceList",
            "groupVersion": "v1",
            "resources": [
                {"name": "secrets", "kind": "Secret", "namespaced": True, "verbs": ["get"]}
            ],
        }
        answers: dict[str, Object] = {
            "/api": api,
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
            "/api/v1": kinds,
            "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
            f"/api/v1/namespaces/{NAMESPACE}/secrets/passerby-redis": self.secret,
        }
        answer = answers.get(self.path.split("?")[0])
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


def test_an_upgrade_keeps_the_password_that_an_install_made(
    cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def password() -> str:
        with (
            helm.Chart.load(chart_folder()) as chart,
            helm.Config(kube_apiserver=cluster, namespace=NAMESPACE) as config,
        ):
            rendered = config.render(chart, {}, name="passerby", namespace=NAMESPACE)
        secret = named(objects_in(rendered), "Secret", "passerby-redis")
        return base64.b64decode(secret["data"]["password"]).decode()

    monkeypatch.setattr(Cluster, "secret", {})
    made, other = password(), password()
    assert made != other
    assert re.fullmatch(r"[A-Za-z0-9]{32}", made)
    kept = {"password": base64.b64encode(made.encode()).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "passerby-redis"}}
    monkeypatch.setattr(Cluster, "secret", {**secret, "data": kept})
    assert password() == made


# --- the Milvus chart ---------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[str]:
    """A chart repository over HTTP that holds the stand-in."""
    folder = tmp_path / "repository"
    folder.mkdir()
    helm.package(chart_folder() / "charts" / "milvus", destination=folder)
    handler = functools.partial(QuietFiles, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        helm.repo_index_generate(folder, base_url=url)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield url
        server.shutdown()
        thread.join()


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_chart_deps_fetches_the_version_that_the_chart_names(
    repository: str, tmp_path: Path
) -> None:
    chart = tmp_path / "passerby"
    shutil.copytree(CHART, chart, ignore=shutil.ignore_patterns("charts"))
    assert not is_there(chart)
    assert fetch(chart, repository) == "milvus 5.0.19"
    assert [path.name for path in (chart / "charts").iterdir()] == ["milvus-5.0.19.tgz"]
    assert is_there(chart)
    assert manifests(chart, {}) == manifests(chart_folder(), {})


def test_a_repository_without_it_is_named(repository: str, tmp_path: Path) -> None:
    chart = tmp_path / "passerby"
    shutil.copytree(CHART, chart, ignore=shutil.ignore_patterns("charts"))
    wrong = repository + "/elsewhere"
    with pytest.raises(NoMilvusChart, match=f"milvus 5.0.19 cannot be fetched from {wrong}"):
        fetch(chart, wrong)


# --- profiles, alerts, documents ----------------------------------------------------------------


def test_there_is_a_profile_for_a_laptop_one_gpu_and_a_cluster() -> None:
    assert [profile.stem for profile in PROFILES] == ["cluster", "laptop-cpu", "one-gpu"]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.stem)
def test_manifests_are_for_kubectl_alone(profile: Path) -> None:
    items = manifests(chart_folder(), values_of(profile))
    assert not of_kind(items, "Secret"), "a generated password would change with every rendering"
    assert not any("helm.sh/hook" in i["metadata"].get("annotations", {}) for i in items)
    assert {"passerby-embedder", "passerby-indexer", "passerby-query"} <= {
        item["metadata"]["name"] for item in of_kind(items, "Deployment")
    }
    # Twice the same, in either order: rendering leaves nothing behind.
    again = manifests(chart_folder(), values_of(profile))
    assert yaml.safe_dump_all(items) == yaml.safe_dump_all(again)
    passwords = [
        variable["valueFrom"]["secretKeyRef"]["name"]
        for pod in workloads(items, ours=True)
        for container in pod.containers
        for variable in container.get("env", [])
        if "secretKeyRef" in variable.get("valueFrom", {})
    ]
    assert set(passwords) == {"passerby-redis-password"}


@pytest.mark.parametrize("namespace", [NAMESPACE, "default"])
def test_manifests_are_for_one_namespace(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "CHART", chart_folder())
    written = CliRunner().invoke(
        commands.main, ["manifests", str(tmp_path), "--namespace", namespace]
    )
    assert written.exit_code == 0, written.output
    text = (tmp_path / "cluster.yaml").read_text()
    assert f"kubectl -n {namespace} create secret" in text
    items = list(yaml.safe_load_all(text))
    (rules,) = of_kind(items, "PrometheusRule")
    for rule in rules["spec"]["groups"][0]["rules"]:
        assert f'namespace="{namespace}"' in rule["expr"]
    (scaler,) = of_kind(items, "ScaledObject")
    address = scaler["spec"]["triggers"][0]["metadata"]["address"]
    assert address == f"passerby-redis.{namespace}.svc:6379"


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
    (found,) = [rule for rule in rules["spec"]["groups"][0]["rules"] if rule["alert"] == name]
    return found


@pytest.mark.parametrize("name", ["PasserbySearchesFail", "PasserbySearchesSlow"])
def test_searches_of_the_page_count_as_those_through_grpc_do(name: str) -> None:
    expression = alert(name)["expr"]
    by_grpc = re.findall(r'passerby_rpc_seconds_\w+\{[^}]*method="Search"', expression)
    by_http = re.findall(r'passerby_http_seconds_\w+\{[^}]*route="/v1/search"', expression)
    assert len(by_grpc) == len(by_http) > 0
    served = (REPOSITORY / "services" / "query" / "http_server.py").read_text()
    assert 'web.post("/v1/search"' in served


def test_somebody_is_woken_when_no_query_pod_is_ready_or_there() -> None:
    rule = alert("PasserbyNotReady")
    assert rule["labels"] == {"severity": "critical"}
    query = f'namespace="{NAMESPACE}",service="passerby-metrics"'
    assert rule["expr"] == f"(sum(passerby_ready{{{query}}}) or vector(0)) == 0"


def test_operations_and_doctor_name_values_and_objects_that_exist() -> None:
    operations = "\n".join(page.read_text() for page in sorted(OPERATIONS.glob("*.md")))
    doctor = (REPOSITORY / "passerby" / "cluster" / "doctor.py").read_text()
    readme = (CHART / "README.md").read_text()
    known = set(re.findall(r"^\| `([\w.]+)`", readme, re.MULTILINE))
    variables = re.findall(r"^\| `(\w+)` \| `([\w.]+)` ", readme, re.MULTILINE)
    known |= {f"{place}.{variable}" for variable, place in variables}
    used = re.findall(r"--set ['\"]?([A-Za-z][\w.]*)=", operations + doctor)
    assert len(used) > 20
    for name in used:
        assert name in known or name.startswith("milvus."), name
    there = {(item["kind"].lower(), item["metadata"]["name"]) for item in objects()}
    # Of the Milvus chart, whose stand-in has none; and made by hand for `make manifests`.
    there |= {("service", "passerby-minio"), ("secret", "passerby-redis-password")}
    kinds = "deployment|statefulset|service|secret"
    named_there = re.findall(rf"\b({kinds})/(passerby-[a-z-]+)", operations)
    assert named_there
    assert set(named_there) <= there
