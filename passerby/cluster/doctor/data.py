"""Do the data of every pod lie where they outlive it?"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml

from passerby.cluster.access import Cluster, Workload, component, is_ours
from passerby.cluster.doctor.faults import remedy_for
from passerby.cluster.doctor.finding import Finding, failed, ok, skipped

# A label of the pods -> folder -> what lies there; of what Milvus's chart may bundle.
_STORES = {
    ("app.kubernetes.io/name", "etcd"): {"/bitnami/etcd": "Milvus's collections"},
    ("app", "minio"): {"/export": "the vectors"},
    ("app.kubernetes.io/name", "kafka"): {"/bitnami/kafka": "the latest vectors"},
    ("app.kubernetes.io/name", "zookeeper"): {"/bitnami/zookeeper": "Kafka's topics"},
    ("component", "zookeeper"): {"/pulsar/data": "Pulsar's topics"},
    ("component", "bookie"): {
        "/pulsar/data/bookkeeper/journal": "the latest vectors",
        "/pulsar/data/bookkeeper/ledgers": "the latest vectors",
    },
    ("component", "woodpecker"): {"/woodpecker/data": "the latest vectors"},
}
_OURS = {
    "redis": {"/data": "the queue and the names"},
    "indexer": {"/var/lib/passerby/images": "the images"},
}
# Where Milvus's image keeps everything.
_MILVUS = "/var/lib/milvus"


def check_data(cluster: Cluster) -> list[Finding]:
    findings = []
    workloads = cluster.workloads()
    for workload in workloads:
        config = milvus_config(cluster, workload) if _role(workload) else {}
        for path, what in places(workload, config).items():
            findings.append(_finding(workload, path, what))
    if not any(is_ours(each.item) and component(each.item) == "redis" for each in workloads):
        detail = "Redis is external: it needs appendonly yes and maxmemory-policy noeviction"
        findings.append(skipped("data", detail))
    return findings


def _finding(workload: Workload, path: str, what: str) -> Finding:
    lies = volume_of(workload, path)
    where = (
        f"{workload.item.metadata.name}: {what} lie in {lies or 'the container itself'} ({path})"
    )
    if lies in ("an emptyDir", ""):
        return failed("data", f"{where} and are lost with the pod", remedy_for(where))
    return ok("data", where)


def places(workload: Workload, milvus: Mapping[str, Any]) -> dict[str, str]:
    """Folder -> what lies there, for what these pods must not lose.

    milvus: the configuration, if these are pods of Milvus itself. Its stores' folders, and that of
    the images, count where something is mounted there.
    """
    if role := _role(workload):
        found = milvus_places(role, milvus)
        if found:
            return found
    if is_ours(workload.item):
        known = _OURS.get(component(workload.item), {})
    else:
        labels = workload.item.spec.template.metadata.labels or {}
        known = next((_STORES[label] for label in labels.items() if label in _STORES), {})
    mounted = {mount.mount_path for mount in _mounts(workload)}
    return {path: what for path, what in known.items() if path in mounted}


def milvus_places(role: str, config: Mapping[str, Any]) -> dict[str, str]:
    """The same for Milvus itself, which leaves most to MinIO, S3, etcd or a message queue."""
    found: dict[str, str] = {}
    if role != "standalone":
        return found
    if _at(config, "woodpecker", "storage", "type") == "local":
        path = _at(config, "woodpecker", "storage", "rootPath") or f"{_MILVUS}/woodpecker"
        found[path] = "the latest vectors"
    if (_at(config, "mq", "type") or _at(config, "messageQueue")) == "rocksmq":
        found[_at(config, "rocksmq", "path") or f"{_MILVUS}/rdb_data"] = "the latest vectors"
    if _at(config, "etcd", "use", "embed") is True:
        found[_at(config, "etcd", "data", "dir") or "default.etcd"] = "Milvus's collections"
    if _at(config, "common", "storageType") == "local":
        found[_at(config, "localStorage", "path") or f"{_MILVUS}/data"] = "the vectors"
    return found


def milvus_config(cluster: Cluster, workload: Workload) -> dict[str, Any]:
    """What the ConfigMap of these pods says: the chart's defaults, and over them the user's."""
    merged: dict[str, Any] = {}
    for volume in workload.pod.volumes or []:
        if volume.config_map:
            texts = cluster.config_map(volume.config_map.name)
            for name in ("default.yaml", "user.yaml"):
                _merge(merged, yaml.safe_load(texts.get(name, "")) or {})
    return merged


def volume_of(workload: Workload, path: str) -> str:
    """What holds a folder: a claim, an emptyDir, another volume; empty for the container itself."""
    holders = [m for m in _mounts(workload) if PurePosixPath(path).is_relative_to(m.mount_path)]
    innermost = max(holders, key=lambda mount: len(mount.mount_path), default=None)
    return _volumes(workload).get(innermost.name, "another volume") if innermost else ""


def _volumes(workload: Workload) -> dict[str, str]:
    kinds = {}
    for volume in workload.pod.volumes or []:
        if volume.persistent_volume_claim:
            kinds[volume.name] = "a claim"
        elif volume.empty_dir:
            kinds[volume.name] = "an emptyDir"
    if workload.kind == "statefulset":
        for template in workload.item.spec.volume_claim_templates or []:
            kinds[template.metadata.name] = "a claim"
    return kinds


def _mounts(workload: Workload) -> list[Any]:
    return [mount for each in workload.pod.containers for mount in each.volume_mounts or []]


def _role(workload: Workload) -> str:
    """standalone, querynode and so on; empty for what is not Milvus itself."""
    # The label that names it is a value of its chart; what it runs is not.
    is_milvus = any({"milvus", "run"} <= set(each.args or []) for each in workload.pod.containers)
    labels = workload.item.spec.template.metadata.labels or {}
    return str(labels.get("component", "")) if is_milvus else ""


def _at(config: Mapping[str, Any], *keys: str) -> Any:
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _merge(into: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
