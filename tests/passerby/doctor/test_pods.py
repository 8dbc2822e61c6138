"""What is wrong with a pod, in the words of whoever knows it, and what to do about it."""

import datetime
from typing import Any

import pytest
from kubernetes import client

from passerby.cluster.doctor.pods import last_words, pod_findings, problem_of
from tests.support import kubernetes_api

NOW = datetime.datetime.now(datetime.UTC)


def ended(message: str, *, code: int = 2, reason: str = "Error") -> dict[str, Any]:
    return {
        "exitCode": code,
        "reason": reason,
        "message": message,
        "finishedAt": NOW.isoformat(),
    }


def pod(component: str = "embedder", **changes: Any) -> Any:
    """A healthy one, but for these fields of its container's status."""
    item = kubernetes_api.pod(component)
    item["status"]["containerStatuses"][0] |= changes
    return client.V1Pod.from_dict(item)


def crashing(message: str, **how: Any) -> Any:
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed ..."}
    last = {"terminated": ended(message, **how)}
    return pod(state={"waiting": waiting}, lastState=last, restartCount=4, ready=False)


def found(*pods: Any, warnings: tuple[Any, ...] = ()) -> tuple[str, str]:
    """Detail and remedy of the first failure."""
    failures = [f for f in pod_findings(pods, warnings, "people") if f.verdict == "failed"]
    return (failures[0].detail, failures[0].remedy) if failures else ("", "")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("", ""),
        ("Traceback (most recent call last):\nMemoryError\n", "; it said: MemoryError"),
        (
            'starting\n{"reason": "\\"cuda\\" finds no CUDA device", "event": "cannot_start"}\n',
            '; it cannot start: "cuda" finds no CUDA device',
        ),
        (
            "indexer: cannot start\n  INDEXER_BATCH_IMAGES='0': too small\n  REDIS_URL: missing\n",
            "; it cannot start: INDEXER_BATCH_IMAGES='0': too small; REDIS_URL: missing",
        ),
    ],
)
def test_last_words_are_the_reason_that_a_program_gives(message: str, said: str) -> None:
    state = client.V1ContainerStateTerminated.from_dict({"exitCode": 1, "message": message})
    assert last_words(state) == said


@pytest.mark.parametrize(
    ("pod", "detail", "remedy"),
    [
        (
            crashing('{"reason": "cuda: finds no CUDA device here", "event": "cannot_start"}'),
            "finds no CUDA device here",
            "embedder.gpu.runtimeClassName",
        ),
        (
            crashing(
                '{"reason": "/models/x/card.json: No such file or directory; a model directory '
                'holds weights.safetensors and card.json", "event": "cannot_start"}'
            ),
            "/models/x/card.json: No such file",
            "name a model that is not there",
        ),
        (
            crashing("embedder: cannot start\nEMBEDDER_PORT='x': not a number"),
            "it cannot start: EMBEDDER_PORT='x'",
            "the line names it and what is allowed",
        ),
        (crashing("", code=137, reason="OOMKilled"), "OOMKilled with exit code 137", "more memory"),
        (
            pod(
                ready=False,
                state={
                    "waiting": {
                        "reason": "ImagePullBackOff",
                        "message": 'Back-off pulling image "team/passerby/embedder:9.9.9"',
                    }
                },
            ),
            'Back-off pulling image "team/passerby/embedder:9.9.9"',
            "`image.registry`, `image.tag`",
        ),
        (
            pod(
                ready=False,
                state={
                    "waiting": {
                        "reason": "CreateContainerConfigError",
                        "message": 'secret "my-redis" not found',
                    }
                },
            ),
            'secret "my-redis" not found',
            "`existingSecret` of `redis`",
        ),
    ],
)
def test_a_fault_of_the_guide_is_named_with_the_guides_remedy(
    pod: Any, detail: str, remedy: str
) -> None:
    said, advised = found(pod)
    assert detail in said
    assert remedy in advised
    assert "\n" not in said


def test_each_of_the_schedulers_reasons_has_its_remedy() -> None:
    message = (
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod affinity rules. "
        "preemption: 0/2 nodes are available: 2 No preemption victims found."
    )
    _, remedy = found(client.V1Pod.from_dict(kubernetes_api.pod("query", pending=message)))
    assert "make room, or ask for less" in remedy
    assert "the images volume is ReadWriteOnce" in remedy
    assert "logs" not in remedy


def test_an_earlier_log_is_asked_for_only_where_there_is_one() -> None:
    _, remedy = found(crashing("MemoryError", code=1))
    assert "logs passerby-embedder-0 -c embedder --previous" in remedy
    item = kubernetes_api.pod("embedder")
    item["status"]["conditions"][0]["status"] = "False"
    detail, remedy = found(client.V1Pod.from_dict(item))
    assert detail == "passerby-embedder-0: not ready: its readiness probe fails"
    assert remedy.endswith("logs passerby-embedder-0 -c embedder`")


def test_what_stands_in_an_event_only_is_shown() -> None:
    starting = pod("query", ready=False, state={"waiting": {"reason": "ContainerCreating"}})
    events = [
        kubernetes_api.warning("Pod", "passerby-query-0", "FailedAttachVolume", "Multi-Attach ..."),
        kubernetes_api.warning("Pod", "another-0", "FailedMount", "not about it"),
    ]
    warnings = tuple(client.CoreV1Event.from_dict(event) for event in events)
    detail, remedy = found(starting, warnings=warnings)
    assert detail.endswith("ContainerCreating; FailedAttachVolume: Multi-Attach ...")
    assert "ReadWriteMany" in remedy


def test_restarts_are_a_problem_if_they_are_recent_and_many_or_it_is_not_ready() -> None:
    def restarted(when: datetime.datetime, count: int = 5, *, ready: bool = True) -> Any:
        last = {"terminated": ended("x") | {"finishedAt": when.isoformat()}}
        return pod(restartCount=count, lastState=last, ready=ready)

    recent = problem_of(restarted(NOW - datetime.timedelta(minutes=5)))
    assert recent
    assert recent.detail.startswith("embedder was restarted 5 times, last: Error with exit code 2")
    assert problem_of(restarted(NOW - datetime.timedelta(hours=5))) is None
    assert problem_of(restarted(NOW, 1)) is None
    between_two = problem_of(restarted(NOW, 1, ready=False))
    assert between_two
    assert between_two.detail.startswith("embedder was restarted 1 time, last: Error")


@pytest.mark.parametrize(("minutes", "fails"), [(60, False), (-10, True)])
def test_a_pod_that_drains_fails_only_when_it_does_not_end(minutes: int, fails: bool) -> None:
    item = kubernetes_api.pod("query")
    end = NOW + datetime.timedelta(minutes=minutes)
    item["metadata"]["deletionTimestamp"] = end.isoformat()
    item["spec"]["nodeName"] = "node-b"
    item["status"]["conditions"][0]["status"] = "False"
    detail, remedy = found(client.V1Pod.from_dict(item))
    assert bool(detail) == fails
    if fails:
        assert f"still terminating since {end:%H:%M} UTC, on node node-b" in detail
        assert "kubectl delete node" in remedy


@pytest.mark.parametrize("component", ["selftest", "push"])
def test_pods_that_run_once_need_not_be_ready(component: str) -> None:
    item = kubernetes_api.pod(component)
    item["status"]["conditions"][0]["status"] = "False"
    assert found(client.V1Pod.from_dict(item)) == ("", "")
