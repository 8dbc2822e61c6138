"""Do indexer and query reach what they depend on, and if not, what do they say?"""

import json
from collections.abc import Iterable
from typing import Any

import grpc

from passerby.cluster.access import Cluster, ClusterError
from passerby.cluster.doctor.faults import remedy_for
from passerby.cluster.doctor.finding import Finding, failed, not_examined, ok, skipped
from passerby.cluster.doctor.pods import is_ready, is_running, leaves
from passerby.cluster.port_forward import forwarded
from passerby.health import DEPENDENCIES, is_serving

QUERY_PORT = 50052
# The services that have dependencies, and the ports on which they report their health.
_HEALTH_PORTS = {"indexer": 50053, "query": QUERY_PORT}
_TIMEOUT_S = 10
# A service that waits says so every 30 seconds.
_LOG_S = 90


def check_peers(cluster: Cluster) -> list[Finding]:
    findings = []
    for service, port in _HEALTH_PORTS.items():
        pods = [pod for pod in cluster.pods(service) if is_running(pod) and not leaves(pod)]
        # Of several the one that has something to say.
        pod = min(pods, key=is_ready, default=None)
        if pod is None:
            findings.append(skipped("dependencies", f"no pod of {service} is running"))
            continue
        try:
            findings.append(_finding(cluster, service, pod.metadata.name, port))
        except ClusterError as error:
            findings.append(not_examined("dependencies", error))
    return findings


def _finding(cluster: Cluster, service: str, pod: str, port: int) -> Finding:
    logs = f"`kubectl -n {cluster.namespace} logs {pod}` says why"
    try:
        with (
            forwarded(cluster, pod, port) as address,
            grpc.insecure_channel(address) as channel,
        ):
            missing = [
                name for name in DEPENDENCIES if not is_serving(channel, name, timeout_s=_TIMEOUT_S)
            ]
    except grpc.RpcError as error:
        detail = f"{service} does not report its health ({error.details()})"
        return failed("dependencies", detail, logs)
    if not missing:
        return ok("dependencies", f"{service} reaches {', '.join(DEPENDENCIES)}")
    reasons = reasons_in(cluster.log(pod, service, since_s=_LOG_S))
    named = [f"{name} ({reasons[name]})" if name in reasons else name for name in missing]
    detail = f"{service} cannot reach {', '.join(named)}"
    return failed("dependencies", detail, remedy_for(detail, logs))


def reasons_in(log: Iterable[str]) -> dict[str, str]:
    """Dependency -> why it could not be reached last, as a service's log says it."""
    found: dict[str, str] = {}
    for line in log:
        event = _event(line)
        if event.get("event") in ("dependency_lost", "still_waiting"):
            name = str(event.get("dependency", ""))
            found[name] = str(event.get("reason", "")).removeprefix(f"{name}: ")
    return found


def _event(line: str) -> dict[str, Any]:
    """A line of a log, which may also be one that no service of ours wrote."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
