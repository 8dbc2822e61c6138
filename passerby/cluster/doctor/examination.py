"""All checks of a release, in the order in which one failure explains the next."""

from collections.abc import Callable, Iterator

from passerby.cluster.access import Cluster, ClusterError
from passerby.cluster.doctor.claims import check_claims
from passerby.cluster.doctor.data import check_data
from passerby.cluster.doctor.finding import Finding, not_examined
from passerby.cluster.doctor.gpu import check_gpu
from passerby.cluster.doctor.peers import check_peers
from passerby.cluster.doctor.pods import check_pods
from passerby.cluster.doctor.rollouts import check_release, check_rollouts
from passerby.cluster.doctor.searches import check_searches

# What a check is called in the table -> the check.
CHECKS: dict[str, Callable[[Cluster], list[Finding]]] = {
    "release": check_release,
    "rollouts": check_rollouts,
    "pods": check_pods,
    "claims": check_claims,
    "data": check_data,
    "gpu": check_gpu,
    "dependencies": check_peers,
    "search": check_searches,
}


def examine(cluster: Cluster) -> Iterator[Finding]:
    """Every check; only the first, if there is no such release."""
    for name, check in CHECKS.items():
        try:
            findings = check(cluster)
        except ClusterError as error:
            findings = [not_examined(name, error)]
        yield from findings
        if name == "release" and any(finding.verdict == "failed" for finding in findings):
            return
