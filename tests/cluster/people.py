"""Drawn people on a volume of the cluster, and the Job that pushes them."""

import io
import json
import os
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import client_pod
from tests.cluster.kubernetes import Kubernetes, Object
from tests.cluster.machine.shell import wait_for
from tests.cluster.release import Release
from training.synthetic.dataset import generate

IMAGES = 1200
CLAIM = "archive"
GALLERY = "people"


@dataclass(frozen=True)
class People:
    """A data set in CUHK-PEDES's layout."""

    folder: Path
    filenames: tuple[str, ...]

    @classmethod
    def draw(cls, folder: Path, images: int = IMAGES) -> "People":
        generate(folder, images=images, seed=14, workers=os.cpu_count() or 1)
        records = json.loads((folder / "reid_raw.json").read_text())
        return cls(folder, tuple(record["file_path"] for record in records))


def claim(name: str, size: str = "1Gi", mode: str = "ReadWriteMany") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": [mode], "resources": {"requests": {"storage": size}}},
    }


def store(people: People, release: Release) -> None:
    """Puts the images on a claim that push Jobs read, and starts the client's pod."""
    cluster = release.cluster
    cluster.apply(claim(CLAIM))
    client_pod.start(release, claim=CLAIM)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(people.folder, arcname=GALLERY)
    _unpack(cluster, packed.getvalue())


def _unpack(cluster: Kubernetes, packed: bytes) -> None:
    command = ["kubectl", "-n", cluster.namespace, "exec", "-i", client_pod.NAME, "--"]
    tar = ["tar", "-x", "-C", "/source", "--no-same-owner"]
    subprocess.run([*command, *tar], input=packed, check=True)


def push(release: Release, gallery: str = GALLERY, *, workers: int = 2) -> str:
    """Starts the Job that pushes what `store` has put there; returns its name."""
    said = release.passerby(
        "push", GALLERY, "--gallery", gallery, "--claim", CLAIM, "--job", f"--workers={workers}"
    )
    (job,) = re.findall(r"^Job (\S+) created", said, re.MULTILINE)
    return str(job)


def finished(release: Release, job: str, timeout_s: int = 600) -> None:
    """Returns when all of it is searchable; fails with what its pods said."""
    cluster = release.cluster

    def ended() -> set[str]:
        conditions = cluster.get(f"job/{job}").get("status", {}).get("conditions", [])
        return {c["type"] for c in conditions if c["status"] == "True"} & {"Complete", "Failed"}

    wait_for(lambda: bool(ended()), f"the end of {job}", timeout_s)
    said = cluster.kubectl("logs", f"job/{job}", "--all-pods", "--tail=20")
    assert ended() == {"Complete"}, said
