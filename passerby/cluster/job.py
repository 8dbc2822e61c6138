"""The Kubernetes Job of `passerby push --job`, modelled on the release's indexer."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SOURCE_FOLDER = "/source"
# The indexer's variables that a pod needs to push: where Redis is, and credentials for S3.
_VARIABLES = ("REDIS_", "AWS_")
_QUERY_PORT = 50052
_RETRIES_PER_SHARE = 3
_KEPT_S = 24 * 3600
# Exit code of `passerby push` when images were rejected: pushing them again changes nothing.
_IMAGES_FAILED = 1
# The user of the container images; no service runs as root.
_USER = 10001


@dataclass(frozen=True)
class PushJob:
    """What to push, and by how many pods."""

    sources: Sequence[str]
    """URLs, or paths below the claim's root."""
    arguments: Sequence[str]
    """Further arguments of `passerby push`."""
    gallery: str
    workers: int
    claim: str | None = None
    """Name of the PersistentVolumeClaim with the images."""
    image: str | None = None
    """Instead of the indexer's."""


def manifest(job: PushJob, release: str, namespace: str, indexer: dict[str, Any]) -> dict[str, Any]:
    """The Job in the API's JSON form.

    indexer: the release's Deployment of the indexer, in the same form; image, Redis, credentials,
    the registry's secrets, labels and the choice of nodes are taken from it.

    Each pod pushes its share, the images whose number is its index modulo the workers. A pod that
    is evicted, or finds a service unavailable, is replaced by one that goes on where it was. A
    share with broken images fails without a retry.
    """
    template = indexer["spec"]["template"]
    labels = {
        name: value
        for name, value in template["metadata"]["labels"].items()
        # Says that the pod shares the volume of images, and keeps others on its node.
        if name != "passerby/images"
    }
    # The chart's network policies let this component reach Redis.
    labels["app.kubernetes.io/component"] = "push"
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [_IMAGES_FAILED]}},
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": _name(job, release), "namespace": namespace, "labels": labels},
        "spec": {
            "completionMode": "Indexed",
            "completions": job.workers,
            "parallelism": job.workers,
            "backoffLimitPerIndex": _RETRIES_PER_SHARE,
            "ttlSecondsAfterFinished": _KEPT_S,
            "podFailurePolicy": {"rules": rules},
            "template": {
                "metadata": {"labels": labels},
                "spec": _pod(job, template["spec"], _query_of(indexer)),
            },
        },
    }


def _query_of(indexer: dict[str, Any]) -> str:
    """Address of the release's query service, which says what is searchable already. The chart
    names both after the release."""
    return f"{indexer['metadata']['name'].removesuffix('-indexer')}-query:{_QUERY_PORT}"


def _pod(job: PushJob, indexer: dict[str, Any], query: str) -> dict[str, Any]:
    """The pods' spec, after that of the indexer's pods."""
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {"sizeLimit": "512Mi"}}]
    if job.claim:
        claim = {"claimName": job.claim, "readOnly": True}
        volumes.append({"name": "source", "persistentVolumeClaim": claim})
    of_indexer = (
        *("serviceAccountName", "imagePullSecrets"),
        *("nodeSelector", "tolerations", "priorityClassName"),
    )
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **{name: indexer[name] for name in of_indexer if indexer.get(name)},
        # No fsGroup: it would change the owner of a million files.
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(job, indexer["containers"][0], query)],
        "volumes": volumes,
    }


def _container(job: PushJob, indexer: dict[str, Any], query: str) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108
    if job.claim:
        mounts.append({"name": "source", "mountPath": SOURCE_FOLDER, "readOnly": True})
    sources = [
        source if "://" in source else f"./{source.strip('/')}".rstrip("/")
        for source in job.sources
    ]
    command = ["passerby", "push", *sources, "--gallery", job.gallery, *job.arguments]
    # Kubernetes would replace $(NAME) by a variable's value.
    command = [part.replace("$", "$$") for part in command]
    if job.workers > 1:
        command += ["--shard", f"$(JOB_COMPLETION_INDEX)/{job.workers}"]
    return {
        "name": "push",
        "image": job.image or indexer["image"],
        "imagePullPolicy": indexer.get("imagePullPolicy", "IfNotPresent"),
        "command": command,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        # Files, those in a list too, are named by their path below the claim's root.
        **({"workingDir": SOURCE_FOLDER} if job.claim else {}),
        "env": [
            {"name": "PASSERBY_QUERY", "value": query},
            *(
                variable
                for variable in indexer.get("env") or []
                if variable["name"].startswith(_VARIABLES)
            ),
        ],
        # The first are the indexer's settings; what the operator added may hold keys for S3.
        "envFrom": (indexer.get("envFrom") or [])[1:],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "128Mi"},
            "limits": {"memory": "1Gi", "ephemeral-storage": "1Gi"},
        },
        "volumeMounts": mounts,
    }


def _name(job: PushJob, release: str) -> str:
    """The same push has the same name, so that it does not run twice at once."""
    said = "\0".join([*job.sources, *job.arguments, job.gallery, job.claim or "", str(job.workers)])
    return f"{release[:30]}-push-{zlib.crc32(said.encode(errors='surrogateescape')):08x}"
