"""Is every pod scheduled, started and ready, and does it stay so?"""

import datetime
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from passerby.cluster.access import Cluster, component, is_ours
from passerby.cluster.doctor.faults import remedy_for
from passerby.cluster.doctor.finding import Finding, failed, ok
from passerby.counted import counted

# Pods of `helm test` and `passerby push --job`: that they ended says nothing about the services.
_RUN_ONCE = ("selftest", "push")
_RESTARTS = 3
_RECENT = datetime.timedelta(hours=1)
# After its grace period the kubelet has a few seconds to report that a pod is gone.
_OVERDUE = datetime.timedelta(minutes=1)
_LAST_WORDS_CHARACTERS = 300


@dataclass(frozen=True)
class Problem:
    """Why a pod is not ready, or not for long."""

    detail: str
    said: str = ""
    """All that Kubernetes and the container said; the guide's words may be anywhere in it."""
    container: str = ""
    previous: bool = False
    """Whether that container ran before and has left a log."""
    explained: bool = True
    """Whether the detail says why; if not, an event may."""


def check_pods(cluster: Cluster) -> list[Finding]:
    pods = cluster.pods()
    warnings = cluster.warnings() if any(problem_of(pod) for pod in pods) else []
    return pod_findings(pods, warnings, cluster.namespace)


def pod_findings(pods: Sequence[Any], warnings: Sequence[Any], namespace: str) -> list[Finding]:
    """warnings: events of the namespace, the newest last."""
    findings = []
    for pod in pods:
        if _need_not_be_ready(pod):
            continue
        name, problem = pod.metadata.name, problem_of(pod, warnings)
        if problem:
            remedy = _remedy(problem, f"kubectl -n {namespace}", name)
            findings.append(failed("pods", f"{name}: {problem.detail}", remedy))
        else:
            findings.append(ok("pods", f"{name}: ready"))
    return findings


def problem_of(pod: Any, warnings: Sequence[Any] = ()) -> Problem | None:
    """The first reason why a pod is not ready or not stable; None if it is.

    warnings: events of the namespace, the newest last.
    """
    if leaves(pod):
        since = f"{pod.metadata.deletion_timestamp:%H:%M} UTC"
        return Problem(f"still terminating since {since}, on node {pod.spec.node_name}")
    conditions = {condition.type: condition for condition in pod.status.conditions or []}
    scheduled = conditions.get("PodScheduled")
    if scheduled and scheduled.status == "False":
        return Problem(f"not scheduled: {scheduled.message}")
    statuses = [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]
    for status in statuses:
        if problem := _problem_of_container(status):
            return _with_event(problem, pod, warnings)
    ready = conditions.get("Ready")
    if ready is None or ready.status != "True":
        why = (ready.message if ready else "") or "its readiness probe fails"
        started = statuses[-1].name if statuses else ""
        problem = Problem(f"not ready: {why}", container=started, explained=False)
        return _with_event(problem, pod, warnings)
    return None


def is_ready(pod: Any) -> bool:
    return problem_of(pod) is None


def is_running(pod: Any) -> bool:
    """Its processes can answer, whether they are ready or not."""
    statuses = pod.status.container_statuses or []
    return bool(statuses) and all(status.state.running for status in statuses)


def last_words(ended: Any) -> str:
    """What a container wrote last before it ended, as its termination message has it.

    Of a line that our services log as JSON, its reason; of a setting that is wrong, all lines.
    """
    text = (ended.message or "").strip() if ended else ""
    _, cannot_start, reasons = text.rpartition("cannot start\n")
    lines = [line.strip() for line in (reasons if cannot_start else text).splitlines()]
    if not lines:
        return ""
    reason = re.search(r'"reason": ("(?:[^"\\]|\\.)*")', lines[-1])
    words = "; ".join(lines) if cannot_start else lines[-1]
    words = str(json.loads(reason[1])) if reason else words
    start = "it cannot start" if cannot_start or '"cannot_start"' in lines[-1] else "it said"
    return f"; {start}: {words[:_LAST_WORDS_CHARACTERS]}"


def _problem_of_container(status: Any) -> Problem | None:
    before = status.last_state.terminated if status.last_state else None
    waiting, ended = status.state.waiting, status.state.terminated
    if waiting:
        # CrashLoopBackOff's own message says how long it waits, and not why.
        message = f" ({waiting.message})" if waiting.message and not before else ""
        last = f", last: {_end(before)}" if before else ""
        detail = f"{status.name} is waiting: {waiting.reason}{message}{last}"
        explained = bool(waiting.message or before)
        return replace(_problem(status.name, detail, before), explained=explained)
    if ended and ended.exit_code:
        return _problem(status.name, f"{status.name} ended: {_end(ended)}", ended)
    # One restart need not mean anything, unless this is a moment between two.
    often = status.restart_count >= _RESTARTS or not status.ready
    if often and before and _ended_recently(before):
        times = counted(status.restart_count, "time", "times")
        detail = f"{status.name} was restarted {times}, last: {_end(before)}"
        return _problem(status.name, detail, before)
    return None


def _problem(container: str, detail: str, before: Any) -> Problem:
    said = (before.message or "") if before else ""
    return Problem(detail, said, container, previous=before is not None)


def _end(ended: Any) -> str:
    """How a container ended, and its last words."""
    return f"{ended.reason} with exit code {ended.exit_code}{last_words(ended)}"


def _ended_recently(ended: Any) -> bool:
    return bool(ended.finished_at) and _now() - ended.finished_at < _RECENT


def _with_event(problem: Problem, pod: Any, warnings: Sequence[Any]) -> Problem:
    """Why a pod waits for its volume or fails its probe stands in an event only."""
    events = [each for each in warnings if each.involved_object.name == pod.metadata.name]
    if problem.explained or not events:
        return problem
    said = f"{events[-1].reason}: {events[-1].message}"
    return replace(problem, detail=f"{problem.detail}; {said}")


def leaves(pod: Any) -> bool:
    """Whether a pod drains, or should have; see `problem_of` for the one that does not end."""
    return bool(pod.metadata.deletion_timestamp)


def _need_not_be_ready(pod: Any) -> bool:
    """One of a Job, an evicted one that stays listed, one that drains."""
    owners = [owner.kind for owner in pod.metadata.owner_references or []]
    if "Job" in owners or (is_ours(pod) and component(pod) in _RUN_ONCE):
        return True
    if pod.status.phase in ("Failed", "Succeeded"):
        return True
    # Kubernetes sets this to the end of the grace period.
    end = pod.metadata.deletion_timestamp
    return bool(end) and _now() < end + _OVERDUE


def _remedy(problem: Problem, kubectl: str, pod: str) -> str:
    # The scheduler gives a reason for each kind of node.
    clauses = problem.detail.split(", ") if "not scheduled" in problem.detail else []
    known = [remedy_for(clause) for clause in clauses or [f"{problem.detail}\n{problem.said}"]]
    known = list(dict.fromkeys(filter(None, known)))
    if known:
        return "; or: ".join(known)
    describe = f"`{kubectl} describe pod {pod}`"
    if not problem.container:
        return describe
    previous = " --previous" if problem.previous else ""
    return f"{describe} and `{kubectl} logs {pod} -c {problem.container}{previous}`"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
