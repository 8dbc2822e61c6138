"""Does every Deployment and StatefulSet run its newest version, with all of its pods?"""

from collections.abc import Sequence
from typing import Any

from passerby.cluster.access import Cluster, Workload
from passerby.cluster.doctor.faults import remedy_for
from passerby.cluster.doctor.finding import Finding, failed, ok


def check_release(cluster: Cluster) -> list[Finding]:
    """Our Deployments are there."""
    deployments = cluster.deployments()
    missing = [name for name in ("embedder", "indexer", "query") if name not in deployments]
    where = f"release {cluster.release} in namespace {cluster.namespace}"
    if missing:
        return [
            failed(
                "release",
                f"{where}: no Deployment of {', '.join(missing)}",
                "`helm list -A` shows releases and their namespaces; name them with --release and "
                "--namespace, or run `helm install`",
            )
        ]
    version = deployments["query"].metadata.labels.get("app.kubernetes.io/version", "unknown")
    return [ok("release", f"{where}, version {version}")]


def check_rollouts(cluster: Cluster) -> list[Finding]:
    workloads = cluster.workloads()
    lacking = [each for each in workloads if each.kind == "statefulset" and _lacks_pods(each)]
    warnings = cluster.warnings() if lacking else []
    return [_finding(each, cluster.namespace, warnings) for each in workloads]


def _finding(workload: Workload, namespace: str, warnings: Sequence[Any]) -> Finding:
    wanted = _replicas(workload)
    if wanted == 0:
        detail = f"{workload.name}: 0 replicas are wanted"
        return failed("rollouts", detail, remedy_for(detail))
    status = workload.item.status
    detail = (
        f"{workload.name}: {status.ready_replicas or 0} of {wanted} ready, "
        f"{status.updated_replicas or 0} up to date"
    )
    why = unfinished(workload)
    if not why:
        return ok("rollouts", detail)
    if refusal := refused_pods(workload, warnings):
        why = refusal
    return failed(
        "rollouts",
        f"{detail}; {why}",
        remedy_for(
            why,
            f"the pods below say why; `kubectl -n {namespace} rollout status {workload.name}` "
            "waits for it",
        ),
    )


def unfinished(workload: Workload) -> str:
    """What a rollout lacks, by the rules of `kubectl rollout status`; empty if it is complete.

    A pod of an old version that drains is not counted by Kubernetes any more.
    """
    item, status, wanted = workload.item, workload.item.status, _replicas(workload)
    if (status.observed_generation or 0) < item.metadata.generation:
        return "its newest version is not looked at yet"
    if workload.kind == "statefulset":
        if (status.ready_replicas or 0) < wanted:
            return "not all of its pods are ready"
        if status.update_revision != status.current_revision:
            return "not all of its pods are of the newest version"
        return ""
    updated, total = status.updated_replicas or 0, status.replicas or 0
    if updated < wanted:
        return "new pods are still to be made"
    if total > updated:
        return f"not ready beside {total - updated} of an old version"
    if (status.available_replicas or 0) < updated:
        return "not all of its pods are ready"
    return ""


def refused_pods(workload: Workload, warnings: Sequence[Any]) -> str:
    """Why the API server lets it make no pods (pod security, a quota); empty if it does."""
    for condition in workload.item.status.conditions or []:
        if condition.type == "ReplicaFailure" and condition.status == "True":
            return f"its pods are refused: {condition.message}"
    # A StatefulSet has no such condition.
    for event in reversed(warnings):
        about = (event.involved_object.kind, event.involved_object.name)
        if about == ("StatefulSet", workload.item.metadata.name) and event.reason == "FailedCreate":
            return f"its pods are refused: {event.message}"
    return ""


def _replicas(workload: Workload) -> int:
    wanted = workload.item.spec.replicas
    return 1 if wanted is None else int(wanted)


def _lacks_pods(workload: Workload) -> bool:
    return (workload.item.status.replicas or 0) < _replicas(workload)
