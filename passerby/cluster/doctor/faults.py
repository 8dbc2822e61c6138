"""Faults by the words that Kubernetes and our services use for them, each with its remedy.

The table in docs/operations/doctor.md says the same; a test compares the two.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A row of the guide's table."""

    words: tuple[str, ...]
    """One of these is in what was said."""
    remedy: str


_GUIDE = "docs/operations"

# The first that fits is taken: what is more exact stands before what is less.
FAULTS = (
    Fault(
        ("Multi-Attach", "didn't match pod affinity"),
        "the images volume is ReadWriteOnce and its node is full or gone: make room, or move to "
        f"ReadWriteMany ({_GUIDE}/volumes.md#images) or to `--set images.store=s3`",
    ),
    Fault(
        ("Insufficient nvidia.com/",),
        "no such GPU is free: `--set embedder.maxSurge=0`, another `embedder.gpu.resource`, or "
        "`--set embedder.gpu.enabled=false`",
    ),
    Fault(
        ("Insufficient cpu", "Insufficient memory"),
        "the nodes are full of requests: make room, or ask for less in `resources`",
    ),
    Fault(
        ("untolerated taint", "didn't match Pod's node affinity/selector"),
        "`tolerations` and `nodeSelector` of that component say where it may run: change them, or "
        "the node",
    ),
    Fault(
        (
            "unbound immediate PersistentVolumeClaims",
            "no default StorageClass",
            "there is no StorageClass",
            "its provisioner",
        ),
        "`kubectl get storageclass`: make one the default, or name one in "
        "`images.claim.storageClass` and `redis.persistence.storageClass` "
        f"({_GUIDE}/volumes.md); if the class is there, the log of its provisioner says more",
    ),
    Fault(
        ('persistentvolumeclaim "', "claim is missing"),
        "make the claim, or correct its name (`embedder.model.existingClaim`, "
        "`images.claim.existingClaim`)",
    ),
    Fault(
        ("lie in an emptyDir", "lie in the container"),
        f"save Milvus's before its pod goes ({_GUIDE}/volumes.md#vectors-in-an-emptydir); Redis "
        "gets a volume by `--set redis.persistence.enabled=true`, in a new release only",
    ),
    Fault(
        ("violates PodSecurity",),
        "Milvus's pods need `baseline`, ours run under `restricted` too: `kubectl label namespace "
        "NAMESPACE pod-security.kubernetes.io/enforce=baseline --overwrite`",
    ),
    Fault(
        ("exceeded quota",),
        "raise the namespace's ResourceQuota, or ask for less in `resources`",
    ),
    Fault(
        ("0 replicas are wanted",),
        "`kubectl scale` it, or take KEDA's annotation away, as after a backup "
        f"({_GUIDE}/backup.md#back-up)",
    ),
    Fault(
        ("ErrImagePull", "ImagePullBackOff", "InvalidImageName"),
        "`image.registry`, `image.tag`, `imagePullSecrets`; for Redis `redis.image`, for Milvus "
        "`milvus.image`",
    ),
    Fault(
        ("CreateContainerConfigError",),
        "make the Secret, with that key, or correct its name (`existingSecret` of `redis`, "
        "`externalRedis`, `externalMilvus` or `s3`)",
    ),
    Fault(
        ("OOMKilled",),
        "more memory in that one's `resources`; for Redis `redis.maxMemory` is half of it",
    ),
    Fault(
        ("finds no CUDA device",),
        "the container sees no driver: `kubectl describe node` and the log of NVIDIA's device "
        "plugin, `--set embedder.gpu.runtimeClassName=nvidia`, or "
        "`--set embedder.gpu.enabled=false`",
    ),
    Fault(
        ("a model directory holds",),
        "`embedder.model.source` and `embedder.model.names` name a model that is not there "
        f"({_GUIDE}/model-swap.md)",
    ),
    Fault(
        ("cannot start", "cannot_start"),
        "a setting or a model is wrong; the line names it and what is allowed",
    ),
    Fault(
        ("invalid username-password pair", "already authenticated", "WRONGPASS", "NOAUTH"),
        "the Secret and Redis disagree: restart Redis, then indexer and query "
        f"({_GUIDE}/secrets.md#redis)",
    ),
    Fault(
        ("auth check failure", "missing authorization in header"),
        "correct the token in the Secret that `externalMilvus.existingSecret` names, then restart "
        f"indexer and query ({_GUIDE}/secrets.md)",
    ),
    Fault(
        ("cannot reach",),
        "look at that one's pods; this pod becomes ready by itself. Milvus takes minutes at its "
        "first start",
    ),
    Fault(
        ("NOT_SERVING",),
        "it waits for what it depends on: `passerby doctor` says for what, and its log "
        "(`still_waiting`) why",
    ),
    Fault(
        ("still terminating", "Node is not ready"),
        "its node does not answer: mend it, or remove it (`kubectl delete node NODE`), so that "
        "its pods and volumes may move",
    ),
)


def remedy_for(said: str, otherwise: str = "") -> str:
    """What to do about the first known fault in these words."""
    for fault in FAULTS:
        if any(words in said for words in fault.words):
            return fault.remedy
    return otherwise
