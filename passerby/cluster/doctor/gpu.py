"""Do the nodes have the GPUs that the embedder asks for?"""

from typing import Any

from passerby.cluster.access import Cluster
from passerby.cluster.doctor.faults import remedy_for
from passerby.cluster.doctor.finding import Finding, failed, ok, skipped


def check_gpu(cluster: Cluster) -> list[Finding]:
    embedder = cluster.deployments()["embedder"]
    asked = gpus_of(embedder.spec.template.spec.containers)
    if not asked:
        return [skipped("gpu", "the embedder requests no GPU; it runs on CPUs")]
    replicas = 1 if embedder.spec.replicas is None else int(embedder.spec.replicas)
    nodes = cluster.nodes()
    return [_finding(resource, each, replicas, nodes) for resource, each in asked.items()]


def _finding(resource: str, each: int, replicas: int, nodes: list[Any]) -> Finding:
    allocatable = [int((node.status.allocatable or {}).get(resource, 0)) for node in nodes]
    wanted, there = each * replicas, sum(allocatable)
    where = f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}"
    detail = f"{wanted} {resource} requested, {there} allocatable on {where}"
    if max(allocatable, default=0) >= each and there >= wanted:
        spare = "" if there >= wanted + each else "; none to spare for an upgrade"
        return ok("gpu", detail + spare)
    others = sorted({name for node in nodes for name in gpus_in(node.status.allocatable or {})})
    if others := [name for name in others if name != resource]:
        detail += f" (there are: {', '.join(others)})"
    plugin = "is the device plugin or the GPU operator installed?"
    return failed("gpu", detail, f"{plugin} {remedy_for(f'Insufficient {resource}')}".strip())


def gpus_of(containers: list[Any]) -> dict[str, int]:
    """Resource, for example nvidia.com/gpu or a MIG slice -> how many of it one pod requests."""
    asked: dict[str, int] = {}
    for container in containers:
        limits = (container.resources.limits or {}) if container.resources else {}
        for resource, count in gpus_in(limits).items():
            asked[resource] = asked.get(resource, 0) + count
    return asked


def gpus_in(resources: dict[str, str]) -> dict[str, int]:
    """The devices among resources: their names have the vendor's domain."""
    return {
        name: int(count)
        for name, count in resources.items()
        if "/" in name and "kubernetes.io/" not in name
    }
