"""Is every volume there that the pods ask for?"""

from collections.abc import Mapping, Sequence
from typing import Any

from passerby.cluster.access import Cluster, Workload
from passerby.cluster.doctor.faults import remedy_for
from passerby.cluster.doctor.finding import Finding, failed, ok, skipped

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def check_claims(cluster: Cluster) -> list[Finding]:
    claims = cluster.volume_claims()
    wanted = wanted_claims(cluster.workloads(), claims)
    if not wanted:
        return [skipped("claims", "no pod asks for a volume")]
    unbound = {
        name: claims.get(name)
        for name in wanted
        if name not in claims or claims[name].status.phase != "Bound"
    }
    # Only now: a role for one namespace does not show the cluster's StorageClasses.
    classes = cluster.storage_classes() if any(unbound.values()) else {}
    warnings = cluster.warnings() if any(unbound.values()) else []
    findings = []
    for name in wanted:
        if name not in unbound:
            findings.append(ok("claims", f"{name}: Bound"))
            continue
        claim = unbound[name]
        why = why_unbound(claim, classes, warnings) if claim else "this claim is missing"
        if not why:
            findings.append(skipped("claims", f"{name}: gets its volume once its pod is scheduled"))
            continue
        describe = f"`kubectl -n {cluster.namespace} describe pvc {name}`"
        findings.append(failed("claims", f"{name}: {why}", remedy_for(why, describe)))
    return findings


def wanted_claims(workloads: Sequence[Workload], claims: Mapping[str, Any]) -> list[str]:
    """The claims that the pods name, and of a StatefulSet's templates those that it has made."""
    names = []
    for workload in workloads:
        named = [volume.persistent_volume_claim for volume in workload.pod.volumes or []]
        names += [claim.claim_name for claim in named if claim]
        if workload.kind == "statefulset":
            for template in workload.item.spec.volume_claim_templates or []:
                prefix = f"{template.metadata.name}-{workload.item.metadata.name}-"
                names += [name for name in claims if name.removeprefix(prefix).isdigit()]
    return sorted(set(names))


def why_unbound(claim: Any, classes: Mapping[str, Any], warnings: Sequence[Any]) -> str:
    """Why nothing provisions this claim; empty if it only waits for its pod.

    classes: StorageClasses by name. warnings: events, the newest last.
    """
    if claim.status.phase != "Pending":
        return f"{claim.status.phase}: its volume is gone"
    wanted = claim.spec.storage_class_name
    if not wanted:
        defaults = [name for name, each in classes.items() if _is_default(each)]
        if not defaults:
            return f"Pending: it names no class, and there is no default StorageClass{_of(classes)}"
    elif wanted not in classes:
        return f"Pending: there is no StorageClass {wanted}{_of(classes)}"
    for event in reversed(warnings):
        about = (event.involved_object.kind, event.involved_object.name)
        if about == ("PersistentVolumeClaim", claim.metadata.name):
            return f"Pending: its provisioner says {event.reason}: {event.message}"
    found = classes.get(wanted or "")
    if found is not None and found.volume_binding_mode == "WaitForFirstConsumer":
        chosen = (claim.metadata.annotations or {}).get("volume.kubernetes.io/selected-node")
        if not chosen:
            return ""
    provisioner = found.provisioner if found is not None else "of the default class"
    return f"Pending: its provisioner ({provisioner}) does not answer"


def _is_default(storage_class: Any) -> bool:
    return (storage_class.metadata.annotations or {}).get(_DEFAULT_CLASS) == "true"


def _of(classes: Mapping[str, Any]) -> str:
    return f" (there are: {', '.join(sorted(classes)) or 'none'})"
