"""Checks from outside whether an installed release works and, if not, says what to do."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import grpc

from passerby.client import Client
from passerby.cluster.access import Cluster, ClusterError, component
from passerby.cluster.port_forward import forwarded
from passerby.counted import counted
from passerby.errors import PasserbyError
from passerby.health import is_serving

SERVICES = ("embedder", "indexer", "query")
# Pods of `helm test` and `passerby push --job`: that they ended says nothing about the services.
RUN_ONCE = ("selftest", "push")
GPUS = "nvidia.com/"
QUERY_PORT = 50052
# The services that have dependencies, and the ports on which they report their health.
HEALTH_PORTS = {"indexer": 50053, "query": QUERY_PORT}
DEPENDENCIES = ("embedder", "milvus", "redis")
TIMEOUT_S = 10
# A busy indexer clears this many entries in well under a minute.
LONG_QUEUE = 1000
RESTARTS_TO_MENTION = 3
LAST_WORDS_CHARACTERS = 300

Verdict = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One row of the table: what was checked, what was found, what to do."""

    check: str
    verdict: Verdict
    detail: str
    remedy: str = ""


def examine(cluster: Cluster) -> Iterator[Finding]:
    """Every check, in the order in which one failure explains the next."""
    checks: list[tuple[str, Callable[[Cluster], list[Finding]]]] = [
        ("release", check_release),
        ("rollouts", check_rollouts),
        ("pods", check_pods),
        ("gpu", check_gpu),
        ("redis persistence", check_redis),
        ("dependencies", check_dependencies),
        ("search", check_search),
    ]
    for name, check in checks:
        try:
            findings = check(cluster)
        except ClusterError as error:
            findings = [Finding(name, "failed", str(error).split(": ")[0], str(error))]
        yield from findings
        if name == "release" and any(finding.verdict == "failed" for finding in findings):
            return


def check_release(cluster: Cluster) -> list[Finding]:
    deployments = cluster.deployments()
    missing = [service for service in SERVICES if service not in deployments]
    where = f"release {cluster.release} in namespace {cluster.namespace}"
    if missing:
        return [
            Finding(
                "release",
                "failed",
                f"{where}: no Deployment of {', '.join(missing)}",
                "`helm list -A` shows releases and their namespaces; name them with --release and "
                "--namespace, or run `helm install`",
            )
        ]
    version = deployments["query"].metadata.labels.get("app.kubernetes.io/version", "unknown")
    return [Finding("release", "ok", f"{where}, version {version}")]


def check_rollouts(cluster: Cluster) -> list[Finding]:
    """Every Deployment and StatefulSet runs its newest version with all of its replicas."""
    findings = []
    workloads = [("deployment", item) for item in cluster.deployments().values()]
    workloads += [("statefulset", item) for item in cluster.stateful_sets().values()]
    for kind, item in workloads:
        wanted = item.spec.replicas if item.spec.replicas is not None else 1
        status = item.status
        updated, ready = status.updated_replicas or 0, status.ready_replicas or 0
        seen = (status.observed_generation or 0) >= item.metadata.generation
        done = seen and updated >= wanted and ready >= wanted
        name = f"{kind}/{item.metadata.name}"
        findings.append(
            Finding(
                "rollouts",
                "ok" if done else "failed",
                f"{name}: {ready} of {wanted} ready, {updated} up to date",
                ""
                if done
                else f"`kubectl -n {cluster.namespace} rollout status {name}` waits for it; "
                f"`kubectl -n {cluster.namespace} describe {name}` says what it is waiting for",
            )
        )
    return findings


def check_pods(cluster: Cluster) -> list[Finding]:
    """Every pod is scheduled, started and ready, and was not restarted repeatedly."""
    findings = []
    for pod in cluster.pods():
        # An evicted pod stays listed beside its replacement.
        if component(pod) in RUN_ONCE or pod.status.phase in ("Failed", "Succeeded"):
            continue
        problem = problem_of(pod)
        name = pod.metadata.name
        findings.append(
            Finding(
                "pods",
                "failed" if problem else "ok",
                f"{name}: {problem or 'ready'}",
                f"`kubectl -n {cluster.namespace} describe pod {name}` and `kubectl -n "
                f"{cluster.namespace} logs {name} --previous --all-containers`"
                if problem
                else "",
            )
        )
    return findings


def problem_of(pod: Any) -> str:
    """The first reason why a pod is not ready or not stable; empty if it is."""
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"not scheduled: {condition.message}"
    statuses = [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]
    for status in statuses:
        ended = status.last_state.terminated if status.last_state else None
        said = last_words(ended)
        if status.state.waiting:
            message = f" ({status.state.waiting.message})" if status.state.waiting.message else ""
            return f"{status.name} is waiting: {status.state.waiting.reason}{message}{said}"
        if status.restart_count >= RESTARTS_TO_MENTION:
            why = f", last: {ended.reason} with exit code {ended.exit_code}{said}" if ended else ""
            return f"{status.name} was restarted {status.restart_count} times{why}"
    for condition in pod.status.conditions or []:
        if condition.type == "Ready" and condition.status != "True":
            return f"not ready: {condition.message or 'its readiness probe fails'}"
    return ""


def last_words(ended: Any) -> str:
    """The last line that a container wrote before it ended, as its termination message has it.

    Of a line that our services log as JSON, its reason.
    """
    lines = (ended.message or "").strip().splitlines() if ended else []
    if not lines:
        return ""
    reason = re.search(r'"reason": ("(?:[^"\\]|\\.)*")', lines[-1])
    words = str(json.loads(reason[1])) if reason else lines[-1]
    return f"; it said: {words[:LAST_WORDS_CHARACTERS]}"


def check_gpu(cluster: Cluster) -> list[Finding]:
    """Some node has the GPUs, or slices of GPUs, that the embedder requests."""
    embedder = cluster.deployments()["embedder"]
    asked = gpus_of(embedder.spec.template.spec.containers)
    if not asked:
        return [Finding("gpu", "skipped", "the embedder requests no GPU; it runs on CPUs")]
    replicas = embedder.spec.replicas if embedder.spec.replicas is not None else 1
    nodes = cluster.nodes()
    findings = []
    for resource, each in asked.items():
        allocatable = [int((node.status.allocatable or {}).get(resource, 0)) for node in nodes]
        enough = max(allocatable, default=0) >= each and sum(allocatable) >= each * replicas
        findings.append(
            Finding(
                "gpu",
                "ok" if enough else "failed",
                f"{each * replicas} {resource} requested, {sum(allocatable)} allocatable on "
                f"{counted(len(nodes), 'node', 'nodes')}",
                ""
                if enough
                else "install the NVIDIA device plugin or GPU operator (`kubectl describe nodes` "
                f"shows {resource}), add a GPU node, or run on CPUs with --set "
                "embedder.gpu.enabled=false",
            )
        )
    return findings


def gpus_of(containers: list[Any]) -> dict[str, int]:
    """Resource, for example nvidia.com/gpu or a MIG slice -> how many of it one pod requests."""
    asked: dict[str, int] = {}
    for container in containers:
        limits = (container.resources.limits or {}) if container.resources else {}
        for resource, count in limits.items():
            if resource.startswith(GPUS):
                asked[resource] = asked.get(resource, 0) + int(count)
    return asked


def check_redis(cluster: Cluster) -> list[Finding]:
    """The bundled Redis has a volume for its log; an external one is up to its owner."""
    redis = cluster.stateful_sets().get("redis")
    if redis is None:
        return [
            Finding(
                "redis persistence",
                "skipped",
                "Redis is external: it needs appendonly yes and maxmemory-policy noeviction",
            )
        ]
    claims = [template.metadata.name for template in redis.spec.volume_claim_templates or []]
    if not claims:
        return [
            Finding(
                "redis persistence",
                "failed",
                f"{redis.metadata.name} has no volume: a restart loses the queue and the names",
                "--set redis.persistence.enabled=true",
            )
        ]
    unbound = [
        claim.metadata.name
        for claim in cluster.volume_claims()
        if any(claim.metadata.name.startswith(f"{name}-{redis.metadata.name}-") for name in claims)
        and claim.status.phase != "Bound"
    ]
    if unbound:
        return [
            Finding(
                "redis persistence",
                "failed",
                f"volume claim {', '.join(unbound)} is not bound",
                f"`kubectl -n {cluster.namespace} describe pvc {unbound[0]}`; is there a default "
                "StorageClass? (`kubectl get storageclass`)",
            )
        ]
    return [Finding("redis persistence", "ok", f"{redis.metadata.name} keeps its data on a volume")]


def check_dependencies(cluster: Cluster) -> list[Finding]:
    """Indexer and query report, through a port-forward, what they cannot reach."""
    findings = []
    for service, port in HEALTH_PORTS.items():
        running = [pod for pod in cluster.pods(service) if is_running(pod)]
        if not running:
            findings.append(Finding("dependencies", "skipped", f"no pod of {service} is running"))
            continue
        with (
            forwarded(cluster, running[0].metadata.name, port) as address,
            grpc.insecure_channel(address) as channel,
        ):
            try:
                missing = [
                    name
                    for name in DEPENDENCIES
                    if not is_serving(channel, name, timeout_s=TIMEOUT_S)
                ]
                problem = f"{service} cannot reach {', '.join(missing)}" if missing else ""
            except grpc.RpcError as error:
                problem = f"{service} does not report its health ({error.details()})"
        name = running[0].metadata.name
        findings.append(
            Finding(
                "dependencies",
                "failed" if problem else "ok",
                problem or f"{service} reaches {', '.join(DEPENDENCIES)}",
                f"`kubectl -n {cluster.namespace} logs {name}` says why; the service recovers "
                "by itself when the dependency is back"
                if problem
                else "",
            )
        )
    return findings


def is_running(pod: Any) -> bool:
    """Its process can answer, whether it is ready or not."""
    statuses = pod.status.container_statuses or []
    return bool(statuses) and all(status.state.running for status in statuses)


def check_search(cluster: Cluster) -> list[Finding]:
    """Through a port-forward: the length of the queue, and a search in each gallery."""
    ready = [pod for pod in cluster.pods("query") if not problem_of(pod)]
    if not ready:
        return [Finding("search", "skipped", "no pod of query is ready; see above")]
    with (
        forwarded(cluster, ready[0].metadata.name, QUERY_PORT) as address,
        Client(query=address) as client,
    ):
        try:
            return search_findings(client)
        except PasserbyError as error:
            return [
                Finding(
                    "search",
                    "failed",
                    str(error),
                    f"`kubectl -n {cluster.namespace} logs {ready[0].metadata.name}`",
                )
            ]


def search_findings(client: Client) -> list[Finding]:
    """Needs no Kubernetes. A search fails if the gallery's collection is not loaded."""
    galleries = client.galleries()
    if not galleries:
        return [
            Finding("search", "skipped", "no galleries yet: push one with `passerby push FOLDER`")
        ]
    findings = []
    pending = max(gallery.pending for gallery in galleries)
    findings.append(
        Finding(
            "queue",
            "failed" if pending > LONG_QUEUE else "ok",
            f"{counted(pending, 'entry waits', 'entries wait')}",
            "more indexers or embedders: see docs/operations/troubleshooting.md#ingestion-lags"
            if pending > LONG_QUEUE
            else "",
        )
    )
    for gallery in galleries:
        if gallery.count:
            hits = client.search("a person", gallery=gallery.name, top_k=1)
            findings.append(
                Finding(
                    "search",
                    "ok" if hits else "failed",
                    f"{gallery.name}: {gallery.count} images, {len(hits)} hit for 'a person'",
                    ""
                    if hits
                    else "is its collection loaded? See docs/operations/troubleshooting.md#no-hits",
                )
            )
    return findings
