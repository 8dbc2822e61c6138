"""A pod of someone who uses a release: searches from it, pushes from it, load upon it."""

from tests.cluster.kubernetes import Object
from tests.cluster.release import Release

NAME = "client"


def start(release: Release, name: str = NAME, *, claim: str = "", node: str = "") -> None:
    """Returns when it runs, or runs already: nobody makes it anew when its node is drained."""
    cluster = release.cluster
    if not cluster.kubectl("get", "pod", name, "--ignore-not-found"):
        cluster.apply(manifest(release, name, claim=claim, node=node))
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s")


def manifest(release: Release, name: str = NAME, *, claim: str = "", node: str = "") -> Object:
    """claim: mounted at /source. node: where it runs, if that matters."""
    query = release.cluster.get(f"deployment/{release.name}-query")
    container = query["spec"]["template"]["spec"]["containers"][0]
    redis = [variable for variable in container["env"] if variable["name"].startswith("REDIS_")]
    volume = {"name": "source", "persistentVolumeClaim": {"claimName": claim}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"passerby/client": "true"}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node} if node else {},
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumes": [volume] if claim else [],
            "containers": [
                {
                    "name": "client",
                    "image": container["image"],
                    "command": ["sleep", "infinity"],
                    "env": [
                        {
                            "name": "PASSERBY_QUERY",
                            "value": f"{release.name}-headless:50052",
                        },
                        *redis,
                    ],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "source", "mountPath": "/source"}] if claim else [],
                }
            ],
        },
    }
