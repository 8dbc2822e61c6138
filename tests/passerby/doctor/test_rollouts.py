"""A rollout is complete when `kubectl rollout status` would say so."""

from typing import Any

import pytest
from kubernetes import client

from passerby.cluster.access import Workload
from passerby.cluster.doctor.rollouts import refused_pods, unfinished
from tests.support import kubernetes_api

FORBIDDEN = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": ...'


def deployment(status: dict[str, Any], replicas: int = 2) -> Workload:
    """One that has just become healthy, but for what the status says."""
    item = kubernetes_api.workload("query", replicas=replicas, ready=replicas)
    item["status"] |= status
    return Workload("deployment", client.V1Deployment.from_dict(item))


def stateful_set(status: dict[str, Any]) -> Workload:
    item = kubernetes_api.workload("redis", replicas=1, ready=1)
    item["status"] |= {"currentRevision": "redis-1", "updateRevision": "redis-1", **status}
    return Workload("statefulset", client.V1StatefulSet.from_dict(item))


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({}, ""),
        ({"observedGeneration": 1}, "its newest version is not looked at yet"),
        ({"updatedReplicas": 1}, "new pods are still to be made"),
        # The new pod crash-loops, or cannot be pulled or scheduled, beside the old ones.
        (
            {"replicas": 3, "updatedReplicas": 2, "unavailableReplicas": 1},
            "not ready beside 1 of an old version",
        ),
        ({"readyReplicas": 1, "availableReplicas": 1}, "not all of its pods are ready"),
    ],
)
def test_what_a_deployment_lacks_is_named(status: dict[str, Any], why: str) -> None:
    assert unfinished(deployment(status)) == why


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({}, ""),
        ({"readyReplicas": 0}, "not all of its pods are ready"),
        ({"updateRevision": "redis-2"}, "not all of its pods are of the newest version"),
    ],
)
def test_what_a_stateful_set_lacks_is_named(status: dict[str, Any], why: str) -> None:
    assert unfinished(stateful_set(status)) == why


def test_a_namespace_that_refuses_the_pods_is_named_with_its_own_words() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": FORBIDDEN}
    refused = deployment({"conditions": [condition], "replicas": 0, "updatedReplicas": 0})
    assert refused_pods(refused, []) == f"its pods are refused: {FORBIDDEN}"
    assert refused_pods(deployment({}), []) == ""


def test_a_stateful_set_is_refused_by_an_event_about_it() -> None:
    events = [
        client.CoreV1Event.from_dict(kubernetes_api.warning(*about, "FailedCreate", message))
        for about, message in {
            ("StatefulSet", "passerby-redis"): FORBIDDEN,
            ("StatefulSet", "another-redis"): "another",
        }.items()
    ]
    assert refused_pods(stateful_set({}), events) == f"its pods are refused: {FORBIDDEN}"
    assert refused_pods(stateful_set({}), events[1:]) == ""
