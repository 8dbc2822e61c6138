"""The chart and the services' settings: the same variables, values that start, one description."""

import json
import re

import pytest
import yaml

from deploy.helm.reference import (
    CHART,
    SET_BY_THE_CHART,
    SETTINGS,
    fields_at,
    generated,
    values_table,
)
from deploy.helm.schema import RULES
from services.embedder.settings import EmbedderSettings
from services.indexer.settings import IndexerSettings
from services.query.settings import QuerySettings
from services.runtime.settings import ServiceSettings, load, variable_of
from tests.support.chart import (
    SINGLE,
    Object,
    Values,
    files,
    merged,
    named,
    objects,
    workloads,
)

SERVICES: dict[str, type[ServiceSettings]] = {
    "embedder": EmbedderSettings,
    "indexer": IndexerSettings,
    "query": QuerySettings,
}
# Of another program in the same container, the S3 client.
NOT_SETTINGS = {"AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
SECRETS = {"password": "s3cret/Pa+5@5=", "token": "root:s3cret", "AWS_ACCESS_KEY_ID": "id"}

every_change = pytest.mark.parametrize("values", SINGLE.values(), ids=SINGLE.keys())
every_service = pytest.mark.parametrize("service", SERVICES)


def container_of(items: list[Object], service: str) -> Object:
    deployment = named(items, "Deployment", f"passerby-{service}")
    container: Object
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container


def environment_of(items: list[Object], service: str) -> dict[str, str]:
    """What the kubelet would put into the service's environment."""
    container = container_of(items, service)
    (source,) = container["envFrom"]
    environment = dict(named(items, "ConfigMap", source["configMapRef"]["name"])["data"])
    for variable in container.get("env", []):
        value = variable.get("value", "")
        if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
            value = SECRETS.get(reference["key"], "key")
        elif reference := variable.get("valueFrom", {}).get("resourceFieldRef"):
            assert reference["resource"] == "requests.cpu"
            value = "2"
        environment[variable["name"]] = re.sub(
            r"\$\((\w+)\)", lambda name: environment[name[1]], value
        )
    return environment


def settings_of(
    items: list[Object], service: str, monkeypatch: pytest.MonkeyPatch
) -> ServiceSettings:
    for settings in SERVICES.values():
        for field in settings.model_fields:
            monkeypatch.delenv(variable_of(settings, field), raising=False)
    environment = environment_of(items, service)
    if service == "embedder":
        # Baked into the image, beside the model.
        environment = {"EMBEDDER_MODELS": "/models/image", **environment}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load(SERVICES[service], environment)


@every_service
@every_change
def test_the_environment_holds_settings_of_the_service_and_nothing_else(
    values: Values, service: str
) -> None:
    settings = SERVICES[service]
    known = {variable_of(settings, field) for field in settings.model_fields}
    assert environment_of(objects(values), service).keys() <= known | NOT_SETTINGS


@every_service
@every_change
def test_the_service_would_start_with_it(
    values: Values, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(objects(values), service, monkeypatch)
    container = container_of(objects(values), service)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert settings.host == "0.0.0.0"
    assert settings.port == ports["grpc"]
    assert settings.metrics_port == ports["private"]
    if isinstance(settings, QuerySettings):
        assert settings.http_port == ports["http"]


@every_service
def test_every_setting_is_set_by_the_chart_or_by_the_operator(service: str) -> None:
    settings = SERVICES[service]
    by_chart: set[str] = set()
    for values in SINGLE.values():
        by_chart |= environment_of(objects(values), service).keys()
    by_operator = {
        variable_of(settings, field)
        for place, (owner, _) in SETTINGS.items()
        if issubclass(settings, owner)
        for field in fields_at(place)
    }
    every = {variable_of(settings, field) for field in settings.model_fields}
    # The default, the pod's name, is what it should be in a pod.
    assert every - by_chart - by_operator == ({"INDEXER_CONSUMER"} & every)
    assert {
        variable_of(settings, field) for field in SET_BY_THE_CHART & set(settings.model_fields)
    } & by_operator == set()


def test_a_setting_arrives_as_the_operator_wrote_it(monkeypatch: pytest.MonkeyPatch) -> None:
    items = objects(SINGLE["tuned"])
    embedder = settings_of(items, "embedder", monkeypatch)
    assert isinstance(embedder, EmbedderSettings)
    assert embedder.max_queue == 1_000_000
    assert embedder.log_level == "debug"
    indexer = settings_of(items, "indexer", monkeypatch)
    assert isinstance(indexer, IndexerSettings)
    assert indexer.milvus_index_params == {"M": 16}
    assert indexer.allowed_roots == ("s3://bucket/in",)
    query = settings_of(items, "query", monkeypatch)
    assert isinstance(query, QuerySettings)
    assert (query.timeout_s, query.milvus_index) == (2.5, "HNSW")


@pytest.mark.parametrize(
    ("values", "url", "password"),
    [
        ({}, "redis://passerby-redis:6379/0", SECRETS["password"]),
        (SINGLE["external-redis"], "rediss://app@redis.example:6380/2", SECRETS["password"]),
        (SINGLE["external-redis-without-password"], "redis://redis.example:6379", None),
    ],
)
def test_redis_is_where_the_values_say(values: Values, url: str, password: str | None) -> None:
    for service in ("indexer", "query"):
        environment = environment_of(objects(values), service)
        assert environment["REDIS_URL"] == url
        assert environment.get("REDIS_PASSWORD") == password


@pytest.mark.parametrize(
    ("release", "values", "uri"),
    [
        ("passerby", {}, "http://passerby-milvus:19530"),
        ("milvus-people", {}, "http://milvus-people:19530"),
        ("passerby", {"milvus": {"service": {"port": 1953}}}, "http://passerby-milvus:1953"),
        ("passerby", SINGLE["external-milvus"], "https://milvus.example:443"),
    ],
)
def test_milvus_is_where_its_chart_puts_it(release: str, values: Values, uri: str) -> None:
    items = objects(values, release)
    data = named(items, "ConfigMap", f"{release}-query")["data"]
    assert data["MILVUS_URI"] == uri
    if values.get("milvus", {}).get("enabled", True):
        service = named(items, "Service", uri.split("//")[1].split(":")[0])
        assert service["spec"]["ports"][0]["port"] == int(uri.split(":")[-1])


def test_embedders_are_found_by_a_name_that_gives_all_of_their_addresses() -> None:
    items = objects()
    for service in ("indexer", "query"):
        address = environment_of(items, service)["EMBEDDER_ADDRESS"]
        assert address == "dns:///passerby-embedder:50051"
    assert named(items, "Service", "passerby-embedder")["spec"]["clusterIP"] == "None"


def test_query_has_a_name_that_gives_all_of_its_addresses_to_clients_within_the_cluster() -> None:
    pods = named(objects(), "Service", "passerby-headless")["spec"]
    one = named(objects(), "Service", "passerby-query")["spec"]
    assert pods["clusterIP"] == "None"
    assert pods["selector"] == one["selector"]
    # DNS gives addresses alone: the port must be the pods' own.
    containers = container_of(objects(), "query")["ports"]
    assert [port["port"] for port in pods["ports"]] == [
        port["containerPort"] for port in containers if port["name"] == "grpc"
    ]


@pytest.mark.parametrize(
    ("source", "models"),
    [("claim", "/models/people,/models/people-2"), ("oci", "/models"), ("s3", "/models/people")],
)
def test_the_embedder_reads_the_models_that_were_delivered(source: str, models: str) -> None:
    items = objects(SINGLE[f"model-by-{source}"])
    assert environment_of(items, "embedder")["EMBEDDER_MODELS"] == models
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in container_of(
        items, "embedder"
    )["volumeMounts"]


@every_service
def test_every_setting_is_described(service: str) -> None:
    settings = SERVICES[service]
    silent = [
        variable_of(settings, n) for n, f in settings.model_fields.items() if not f.description
    ]
    assert silent == []


def test_readme_and_schema_are_what_values_and_settings_generate() -> None:
    for path, text in generated().items():
        assert path.read_text() == text, f"{path.name} is out of date: run `make chart`"


@every_service
def test_the_readmes_defaults_are_in_the_form_that_the_chart_takes(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, table = (CHART / "README.md").read_text().partition("## Settings")
    rows = re.findall(r"^\| `(\w+)` \| `([\w.]+)` \| `(.*?)` \|", table, re.MULTILINE)
    assert len(rows) > 15
    set_: Values = {}
    for variable, place, default in rows:
        value: Values = {variable: json.loads(default)}
        for section in reversed(place.split(".")):
            value = {section: value}
        set_ = merged(set_, value)
    # The chart itself sets this one, to json.
    unset: Values = {"settings": {"LOG_FORMAT": "auto"}}
    expected = settings_of(objects(unset), service, monkeypatch)
    assert settings_of(objects(set_), service, monkeypatch) == expected


def test_every_value_is_described_where_it_stands() -> None:
    table = (CHART / "README.md").read_text().partition("## Settings")[0]
    rows = re.findall(r"^\| `([\w.]+)` \| `.*?` \| (.*) \|$", table, re.MULTILINE)
    assert len(rows) > 80
    assert [name for name, meaning in rows if not meaning] == []


def test_no_rule_of_the_schema_is_for_a_value_that_is_not_there() -> None:
    values = (CHART / "values.yaml").read_text()
    names = {name for name, _, _ in values_table(values)} | yaml.safe_load(
        (CHART / "renamed.yaml").read_text()
    ).keys()
    known = names | {f"*.{name.rpartition('.')[2]}" for name in names}
    assert RULES.keys() <= known


def test_a_change_of_settings_restarts_the_service_that_reads_them_and_no_other() -> None:
    def checksums(values: Values) -> dict[str, str]:
        return {
            service: named(objects(values), "Deployment", f"passerby-{service}")["spec"][
                "template"
            ]["metadata"]["annotations"]["checksum/settings"]
            for service in SERVICES
        }

    before = checksums({})
    for service, change in {
        "embedder": {"embedder": {"settings": {"EMBEDDER_MAX_BATCH": 8}}},
        "indexer": {"indexer": {"settings": {"INDEXER_IN_FLIGHT": 8}}},
        "query": {"query": {"settings": {"QUERY_TIMEOUT_S": 3}}},
    }.items():
        after = checksums(change)
        assert [name for name in SERVICES if after[name] != before[name]] == [service]


def test_all_pods_are_given_more_time_than_they_may_take_to_drain() -> None:
    for values in ({}, SINGLE["long-drains"]):
        items = objects(values)
        for pod in workloads(items, ours=True):
            service = pod.name.removeprefix("passerby-")
            if service not in SERVICES:
                continue
            drain = float(environment_of(items, service)[f"{service.upper()}_DRAIN_S"])
            sleep = (
                container_of(items, service)
                .get("lifecycle", {})
                .get("preStop", {})
                .get("sleep", {})
                .get("seconds", 0)
            )
            assert pod.spec["terminationGracePeriodSeconds"] >= sleep + drain + 5


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("default", "kubectl -n people port-forward service/passerby-query 8080"),
        ("cpu", "embedder on CPUs"),
        ("mig", "embedder on 2 x nvidia.com/mig-1g.10gb"),
        ("ingress-with-tls", "Open https://people.example/"),
        ("ingress", "kubectl -n people get ingress passerby-query"),
        ("gateway", "Open the page at people.example"),
        ("load-balancer", "kubectl -n people get service passerby-query"),
        ("external-redis", "Redis at redis.example:6380"),
        ("external-milvus", "Milvus at https://milvus.example:443"),
        ("milvus-cluster", "its own Milvus cluster"),
        ("redis-without-volume", "a restart loses the queue and the names"),
        ("no-surge", "searches fail while the embedder loads its model"),
    ],
)
def test_notes_name_the_next_three_commands_for_this_configuration(name: str, said: str) -> None:
    text = files(SINGLE[name])["passerby/templates/NOTES.txt"]
    assert re.findall(r"^(\d)\. ", text, re.MULTILINE) == ["1", "2", "3"]
    assert "kubectl -n people rollout status deployment/passerby-query" in text
    assert "helm test passerby -n people" in text
    assert said in text
