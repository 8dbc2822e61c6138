"""Gives every claim of the class `local` a folder, which both nodes see as they share a disk.

So any access mode is true here. `python -m tests.cluster.machine.provisioner FOLDER`, with
KUBECONFIG in the environment; runs until it is ended.
"""

import sys
from pathlib import Path
from typing import Any, cast

from kubernetes import client, config, watch

CLASS = "local"
_ANY_NODE = {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "Exists"}]}


def main(folder: Path) -> None:
    config.load_kube_config()
    core = client.CoreV1Api()
    changes = watch.Watch()
    # Without a limit in time it begins anew by itself when the API server ends a watch.
    for change in changes.stream(core.list_persistent_volume_claim_for_all_namespaces):
        claim = client.ApiClient().sanitize_for_serialization(change["object"])
        if change["type"] == "ADDED" and wants_a_volume(claim):
            volume = volume_of(claim, folder)
            Path(volume["spec"]["local"]["path"]).mkdir(parents=True)
            core.create_persistent_volume(cast(client.V1PersistentVolume, volume))
            print("made", volume["metadata"]["name"], "for", claim["metadata"]["name"], flush=True)


def wants_a_volume(claim: dict[str, Any]) -> bool:
    spec = claim["spec"]
    return spec.get("storageClassName") == CLASS and not spec.get("volumeName")


def volume_of(claim: dict[str, Any], folder: Path) -> dict[str, Any]:
    meta, spec = claim["metadata"], claim["spec"]
    name = f"pv-{meta['uid']}"
    return {
        "metadata": {"name": name},
        "spec": {
            "capacity": spec["resources"]["requests"],
            "accessModes": spec["accessModes"],
            "storageClassName": CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            # Not hostPath: of those the kubelet does not set the group (fsGroup).
            "local": {"path": str(folder / name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [_ANY_NODE]}},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
            },
        },
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
