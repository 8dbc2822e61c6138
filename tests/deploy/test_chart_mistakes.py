"""Slips that Helm would let through: refused while rendering, before half a release is made."""

import json
from typing import Any

import helm_python as helm
import pytest
import yaml

from deploy.helm.reference import CHART, values_table
from tests.support.chart import (
    SCALING,
    SINGLE,
    Values,
    files,
    merged,
    named,
    objects,
    objects_in,
    workloads,
)

NUMBER = {"name": "A", "value": 1}
TWICE = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
TMP = {"name": "tmp", "mountPath": "/tmp"}
SELECTED_BY_TRUE = {"namespaceSelector": {"matchLabels": {"scrapes": True}}}
SPREAD = {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "Always"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        # What YAML reads as a number or as true, and Kubernetes wants as text.
        ({"query": {"extraEnv": [NUMBER]}}, "/query/extraEnv/0/value"),
        ({"query": {"tolerations": [{"key": "a", "value": True}]}}, "/query/tolerations/0/value"),
        ({"networkPolicy": {"scrapeFrom": [SELECTED_BY_TRUE]}}, "matchLabels/scrapes"),
        ({"commonLabels": {"cost": 42}}, "/commonLabels/cost"),
        # What Kubernetes refuses.
        ({"commonLabels": {"team": "a b"}}, "/commonLabels/team"),
        ({"query": {"podLabels": {"a b": "c"}}}, "a b"),
        ({"query": {"topologySpreadConstraints": [SPREAD]}}, "whenUnsatisfiable"),
        ({"query": {"resources": {"limits": {"memory": "4GB"}}}}, "/query/resources/limits/memory"),
        ({"query": {"extraVolumeMounts": [{"name": "tmp", "mountPath": "a"}]}}, "mountPath"),
        ({"ingress": {"host": "People_1"}}, "/ingress/host"),
        ({"httpRoute": {"hostnames": ["People_1"]}}, "/httpRoute/hostnames/0"),
        ({"redis": {"image": "valkey 9"}}, "/redis/image"),
        # What is there twice, or not at all.
        ({"query": {"extraEnv": TWICE}}, "query.extraEnv: A is set already"),
        ({"query": {"extraEnv": [{"name": "REDIS_URL"}]}}, "query.extraEnv: REDIS_URL"),
        ({"embedder": {"extraEnv": [{"name": "EMBEDDER_THREADS"}]}}, "embedder.extraEnv"),
        ({"selftest": {"extraEnv": [{"name": "PASSERBY_QUERY"}]}}, "selftest.extraEnv"),
        ({"indexer": {"extraVolumes": [{"name": "images"}]}}, 'a volume "images" already'),
        ({"redis": {"extraVolumes": [{"name": "data"}]}}, 'a volume "data" already'),
        ({"query": {"extraVolumeMounts": [TMP]}}, "something is mounted at /tmp already"),
        ({"redis": {"extraVolumeMounts": [TMP]}}, 'no volume "tmp"; add it to redis.extraVolumes'),
        # Two values that do not go together.
        ({"redis": {"enabled": False}}, "redis.enabled is false; give the address"),
        ({"externalRedis": {"url": "redis://h:1"}}, "redis.enabled is true"),
        ({"externalMilvus": {"uri": "http://h:1"}}, "milvus.enabled is true"),
        (
            {"query": {"autoscaling": {"enabled": True, "minReplicas": 11}}},
            "query.autoscaling.minReplicas: 11 is more than maxReplicas, 10",
        ),
        (
            merged(SCALING, {"embedder": {"resources": {"requests": {"cpu": None}}}}),
            "embedder.resources.requests.cpu: is not set",
        ),
    ],
    ids=str,
)
def test_what_the_api_server_would_refuse_is_refused_by_its_name(values: Values, said: str) -> None:
    with pytest.raises(helm.HelmError) as refusal:
        files(values)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        # `ingress:` with every line below it commented out is null, and null deletes a default.
        ({"ingress": None}, "ingress"),
        ({"embedder": {"gpu": None}}, "gpu"),
        ({"milvus": None}, "enabled"),
        ({"query": {"replicas": None}}, "replicas"),
        ({"redis": {"maxMemory": None}}, "maxMemory"),
        ({"networkPolicy": {"kedaFrom": None}}, "kedaFrom"),
    ],
    ids=str,
)
def test_null_for_what_must_be_there_is_refused_by_its_name(values: Values, said: str) -> None:
    with pytest.raises(helm.HelmError, match=f"missing propert.*'{said}'"):
        files(values)


def test_null_for_what_may_be_empty_means_empty() -> None:
    nulls: Values = {}
    for name, default, _ in values_table((CHART / "values.yaml").read_text()):
        may_be_empty = json.loads(default) == "" or json.loads(default).__class__ in (list, dict)
        if may_be_empty and not name.startswith("milvus.") and name != "networkPolicy.kedaFrom":
            value: Any = None
            for section in reversed(name.split(".")):
                value = {section: value}
            nulls = merged(nulls, value)
    items = objects(merged(SINGLE["monitored"], SINGLE["ingress"], nulls))
    for pod in workloads(items, ours=True):
        for kept in ("nodeSelector", "initContainers", "imagePullSecrets", "priorityClassName"):
            assert kept not in pod.spec
    embedder = named(items, "Deployment", "passerby-embedder")["spec"]["template"]["spec"]
    assert embedder["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": 1}}


@pytest.mark.parametrize("limits", [None, {}, {"cpu": "4"}])
def test_an_embedder_has_its_gpu_whatever_its_limits(limits: Values | None) -> None:
    items = objects({"embedder": {"resources": {"limits": limits}}})
    pod = named(items, "Deployment", "passerby-embedder")["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_a_name_that_no_statefulset_can_have_is_refused() -> None:
    """Its pods are labelled with its name and a hash, which must fit into 63 characters."""
    external = SINGLE["nothing-bundled"]
    files(release="r" * 46)
    files(external, release="r" * 53)
    files(merged(external, {"fullnameOverride": "f" * 53}))
    for refused, said in (
        ({"fullnameOverride": "f" * 47}, "-redis"),
        (merged(SINGLE["external-redis"], {"fullnameOverride": "people"}), "-etcd"),
    ):
        with pytest.raises(helm.HelmError, match=f"more than 46 characters.*{said}"):
            files(refused, release="r" * 47)


def test_names_stay_within_the_limit_of_dns_labels_after_an_override() -> None:
    long = merged(SINGLE["nothing-bundled"], {"fullnameOverride": "f" * 53})
    for values in (long, {"nameOverride": "n" * 53}):
        for item in objects(values):
            if item["metadata"].get("labels", {}).get("app.kubernetes.io/part-of"):
                assert len(item["metadata"]["name"]) <= 63
    with pytest.raises(helm.HelmError, match="/fullnameOverride"):
        files({"fullnameOverride": "f" * 54})


def assert_no_key_is_there_twice(node: yaml.Node | None) -> None:
    """Most readers take the last of two."""
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"{node.start_mark}: {keys}"
        for _, value in node.value:
            assert_no_key_is_there_twice(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            assert_no_key_is_there_twice(value)


def test_labels_and_annotations_of_the_operators_never_stand_beside_ours_of_that_name() -> None:
    same = {"app.kubernetes.io/name": "x", "passerby/images": "x", "team": "x"}
    hostile: Values = {
        component: {
            "podLabels": same,
            "podAnnotations": {"helm.sh/hook": "x", "checksum/settings": "x", "team": "x"},
        }
        for component in ("embedder", "indexer", "query", "redis", "selftest")
    }
    hostile |= {"commonLabels": {**same, "app.kubernetes.io/part-of": "x"}}
    labelled: Values = {"monitoring": {"labels": {"team": "y", "app.kubernetes.io/part-of": "y"}}}
    rendered = files(merged(SINGLE["monitored"], SCALING, hostile, labelled))
    for path, text in rendered.items():
        if not path.endswith("NOTES.txt"):
            for document in yaml.compose_all(text, yaml.CSafeLoader):
                assert_no_key_is_there_twice(document)
    items = objects_in(rendered)
    assert named(items, "Pod", "passerby-selftest")["metadata"]["annotations"]["helm.sh/hook"] == (
        "test"
    )
    monitor = named(items, "ServiceMonitor", "passerby-query")
    assert monitor["metadata"]["labels"]["team"] == "y"
