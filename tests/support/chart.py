"""The chart rendered by the real Helm engine, beside a stand-in for the official Milvus chart."""

import atexit
import functools
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

from deploy.helm.manifests import PROFILES, values_of
from deploy.helm.reference import CHART
from tests.support.milvus_chart import STAND_IN

Values = dict[str, Any]
Object = dict[str, Any]

NAMESPACE = "people"


@functools.cache
def chart_folder(official: Path | None = None) -> Path:
    """A copy of the chart with the stand-in among its charts, or with the official chart."""
    temporary = Path(tempfile.mkdtemp(prefix="passerby-chart-"))
    atexit.register(shutil.rmtree, temporary)
    folder = temporary / "passerby"
    shutil.copytree(CHART, folder, ignore=shutil.ignore_patterns("charts"))
    milvus = folder / "charts" / "milvus"
    if official:
        shutil.copytree(official, milvus)
        return folder
    for name, text in STAND_IN.items():
        path = milvus / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def files(
    values: Values | None = None,
    release: str = "passerby",
    *,
    is_upgrade: bool = False,
    milvus: Path | None = None,
) -> dict[str, str]:
    """Template path -> text; `milvus`: folder of the official Milvus chart, if not the stand-in."""
    # Loaded anew: rendering without a dependency takes it out of the chart in memory.
    with helm.Chart.load(chart_folder(milvus)) as chart:
        return chart.render(values or {}, name=release, namespace=NAMESPACE, is_upgrade=is_upgrade)


def objects_in(rendered: dict[str, str]) -> list[Object]:
    return [
        item
        for path, text in rendered.items()
        if not path.endswith("NOTES.txt")
        for item in yaml.load_all(text, yaml.CSafeLoader)
        if item
    ]


def objects(values: Values | None = None, release: str = "passerby") -> list[Object]:
    return list(_objects(json.dumps(values or {}), release))


@functools.cache
def _objects(values: str, release: str) -> tuple[Object, ...]:
    return tuple(objects_in(files(json.loads(values), release)))


def notes(values: Values | None = None) -> str:
    return files(values)["passerby/templates/NOTES.txt"]


def named(items: list[Object], kind: str, name: str) -> Object:
    (found,) = [i for i in items if i["kind"] == kind and i["metadata"]["name"] == name]
    return found


def of_kind(items: list[Object], *kinds: str) -> list[Object]:
    return [item for item in items if item["kind"] in kinds]


@dataclass(frozen=True)
class Workload:
    """A pod, as the object that makes it describes it."""

    name: str
    labels: dict[str, str]
    spec: Object
    claims: tuple[str, ...] = ()
    """Volumes that a StatefulSet makes a claim for."""

    @property
    def containers(self) -> list[Object]:
        return [*(self.spec.get("initContainers") or []), *self.spec["containers"]]

    @property
    def requests(self) -> dict[str, Object]:
        """Container -> what it requests of its node."""
        return {c["name"]: (c.get("resources") or {}).get("requests", {}) for c in self.containers}

    @property
    def ports(self) -> dict[str, int]:
        """Name -> number, of all containers."""
        return {
            port["name"]: port["containerPort"]
            for container in self.containers
            for port in container.get("ports", [])
        }


def workloads(items: list[Object], *, ours: bool = False) -> list[Workload]:
    """Every pod of the release; `ours`: without those of the Milvus chart."""
    found = []
    for item in of_kind(items, "Deployment", "StatefulSet", "Pod"):
        template = item if item["kind"] == "Pod" else item["spec"]["template"]
        labels = template["metadata"]["labels"]
        if not ours or labels.get("app.kubernetes.io/part-of") == "passerby":
            templates = item["spec"].get("volumeClaimTemplates", [])
            claims = tuple(template["metadata"]["name"] for template in templates)
            found.append(Workload(item["metadata"]["name"], labels, template["spec"], claims))
    return found


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """A LabelSelector with matchLabels only, which is all that the chart uses."""
    assert selector.keys() <= {"matchLabels"}, selector
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def merged(*parts: Values) -> Values:
    result: Values = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else value
    return result


CPU: Values = {"embedder": {"gpu": {"enabled": False}}}
EXTERNAL_REDIS: Values = {
    "redis": {"enabled": False},
    "externalRedis": {"url": "rediss://app@redis.example:6380/2", "existingSecret": "my-redis"},
}
EXTERNAL_MILVUS: Values = {
    "milvus": {"enabled": False},
    "externalMilvus": {"uri": "https://milvus.example:443", "existingSecret": "my-milvus"},
}
S3_IMAGES: Values = {
    "images": {"store": "s3", "uri": "s3://bucket/people"},
    "s3": {"endpoint": "http://minio.example:9000", "existingSecret": "my-s3"},
}
MODELS: dict[str, Values] = {
    "image": {},
    "claim": {"source": "claim", "existingClaim": "my-models", "names": ["people", "people-2"]},
    "oci": {"source": "oci", "reference": "registry.example/models/people:3"},
    "s3": {"source": "s3", "uri": "s3://bucket/models", "names": ["people"]},
}
SCALING: Values = {
    service: {"autoscaling": {"enabled": True}} for service in ("embedder", "indexer", "query")
}
MONITORED: Values = {
    "monitoring": {"serviceMonitor": True, "rules": True, "dashboard": True, "labels": {"a": "b"}}
}

# One change each, so that a failure names it.
SINGLE: dict[str, Values] = {
    "default": {},
    "cpu": CPU,
    "mig": {"embedder": {"gpu": {"resource": "nvidia.com/mig-1g.10gb", "count": 2}}},
    "gpu-nodes": {"embedder": {"gpu": {"runtimeClassName": "nvidia"}}},
    "no-surge": {"embedder": {"maxSurge": 0}},
    "images-from-a-registry": {
        "image": {"registry": "registry.example/team", "tag": "1.2.3"},
        "imagePullSecrets": [{"name": "pull"}],
    },
    "roles": {"serviceAccount": {"annotations": {"example/role": "passerby"}}},
    "scaling": SCALING,
    "scaling-by-metric": merged(SCALING, {"embedder": {"autoscaling": {"metric": "in_hand"}}}),
    "long-drains": {
        s: {"terminationGracePeriodSeconds": 130} for s in ("embedder", "indexer", "query")
    },
    "external-redis": EXTERNAL_REDIS,
    "external-redis-without-password": merged(
        EXTERNAL_REDIS,
        {"externalRedis": {"url": "redis://redis.example:6379", "existingSecret": ""}},
    ),
    "external-redis-with-keda": merged(EXTERNAL_REDIS, SCALING),
    "own-redis-secret": {"redis": {"existingSecret": "my-redis"}},
    "redis-storage": {"redis": {"persistence": {"storageClass": "fast", "size": "1Ti"}}},
    "redis-without-volume": {"redis": {"persistence": {"enabled": False}}},
    "external-milvus": EXTERNAL_MILVUS,
    "milvus-cluster": {"milvus": {"cluster": {"enabled": True}}},
    "milvus-with-token": {"externalMilvus": {"existingSecret": "my-milvus"}},
    "no-images": {"images": {"store": "none"}},
    "s3-images": S3_IMAGES,
    "s3-of-aws": merged(S3_IMAGES, {"s3": {"endpoint": "", "existingSecret": ""}}),
    "images-on-many-nodes": {"images": {"claim": {"accessMode": "ReadWriteMany"}}},
    "images-in-a-claim": {"images": {"claim": {"existingClaim": "my-images", "storageClass": "x"}}},
    **{f"model-by-{source}": {"embedder": {"model": values}} for source, values in MODELS.items()},
    "ingress": {"ingress": {"enabled": True}},
    "ingress-with-tls": {
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "host": "people.example",
            "tlsSecret": "my-tls",
            "annotations": {"example/issuer": "x"},
        }
    },
    "gateway": {
        "httpRoute": {
            "enabled": True,
            "parentRefs": [{"name": "gateway"}],
            "hostnames": ["people.example"],
        }
    },
    "load-balancer": {"query": {"service": {"type": "LoadBalancer"}}},
    "no-policies": {"networkPolicy": {"enabled": False}},
    "closed-policies": {
        "networkPolicy": {
            "searchFrom": [{"podSelector": {"matchLabels": {"app": "portal"}}}],
            "pushFrom": [{"namespaceSelector": {"matchLabels": {"team": "cameras"}}}],
            "scrapeFrom": [{"namespaceSelector": {"matchLabels": {"team": "watchers"}}}],
        },
        **MONITORED,
    },
    "no-budgets": {"podDisruptionBudget": {"enabled": False}},
    "no-metrics": {"monitoring": {"enabled": False}},
    "monitored": MONITORED,
    "traced": {"tracing": {"endpoint": "http://collector.example:4317"}},
    "tuned": {
        "settings": {"LOG_LEVEL": "debug"},
        "gallery": {"settings": {"MILVUS_INDEX": "HNSW", "MILVUS_INDEX_PARAMS": {"M": 16}}},
        "embedder": {"settings": {"EMBEDDER_MAX_QUEUE": 1_000_000}},
        "indexer": {"settings": {"INDEXER_ALLOWED_ROOTS": "s3://bucket/in"}},
        "query": {"settings": {"QUERY_TIMEOUT_S": 2.5}},
    },
    **{f"profile-{profile.stem}": values_of(profile) for profile in PROFILES},
    "nothing-bundled": merged(
        CPU, EXTERNAL_REDIS, EXTERNAL_MILVUS, S3_IMAGES, {"embedder": {"model": MODELS["s3"]}}
    ),
}


def combinations() -> Iterator[tuple[str, Values]]:
    """Every way of getting a model, images, Redis, Milvus and a GPU, with each other."""
    dimensions: list[dict[str, Values]] = [
        {"gpu": {}, "cpu": CPU},
        {"redis": {}, "no-redis": EXTERNAL_REDIS},
        {"milvus": {}, "no-milvus": EXTERNAL_MILVUS},
        {"claim": {}, "s3": S3_IMAGES, "none": {"images": {"store": "none"}}},
        {f"model-{name}": {"embedder": {"model": model}} for name, model in MODELS.items()},
    ]
    for chosen in itertools.product(*(dimension.items() for dimension in dimensions)):
        yield "+".join(name for name, _ in chosen), merged(*(values for _, values in chosen))


# For what may break by the templates' interplay.
MATRIX: dict[str, Values] = {**SINGLE, **dict(combinations())}
