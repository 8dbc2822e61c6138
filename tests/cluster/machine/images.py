"""All images of the cluster, as archives, and a containerd that already holds them.

Each node starts with that one's files (as hard links, as layers never change), so that the three
gigabytes of the embedder are unpacked once for all nodes and runs.
"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from deploy.helm.reference import CHART
from tests.cluster.machine import buildah, stand_ins
from tests.cluster.machine.layout import STATE, Layout, Node
from tests.cluster.machine.node import PAUSE, containerd_at, import_into
from tests.cluster.machine.shell import run, wait_for
from tests.support import base_image
from tests.support.processes import REPOSITORY, running

# The cluster has no GPU.
OURS = ("indexer", "query", "embedder-cpu")
# A folder of archives of the real Valkey and Milvus, to be loaded instead of the stand-ins.
REAL_IMAGES = os.environ.get("REAL_IMAGES", "")
# Base image of ours, where it can be pulled.
BASE = os.environ.get("BASE", "")
_ARCHIVES = STATE / "images"
_STORE = STATE / "store"


def make(programs: Path) -> list[Path]:
    """Archives of everything that runs in the cluster; what exists is made again if it changed."""
    _ARCHIVES.mkdir(parents=True, exist_ok=True)
    stand_ins.make(PAUSE)
    archives = [buildah.archive(PAUSE, _ARCHIVES)]
    archives += [_static(programs / name) for name in ("coredns", "metrics-server")]
    return archives + _dependencies() + ours()


def _static(program: Path) -> Path:
    """An image of one program that needs no other file."""
    place, recipe = f"/{program.name}", program.parent.name
    image = f"localhost/passerby/{program.name}"
    if not buildah.exists(f"{image}:{recipe}"):
        buildah.commit(f"{image}:{recipe}", "scratch", {program: place}, entrypoint=place)
    return buildah.archive(f"{image}:{recipe}", _ARCHIVES, f"{image}:1")


def _dependencies() -> list[Path]:
    if REAL_IMAGES:
        return sorted(Path(REAL_IMAGES).glob("*.tar"))
    for image in (base_image.NAME, stand_ins.VALKEY, stand_ins.MILVUS):
        stand_ins.make(image)
    return [buildah.archive(image, _ARCHIVES) for image in (stand_ins.VALKEY, stand_ins.MILVUS)]


def ours() -> list[Path]:
    """Built by the target that people use, of this checkout."""
    base = BASE or base_image.NAME
    if not BASE:
        stand_ins.make(base)
    variables = ["BUILDER=buildah", "BUILD_FLAGS=--isolation chroot --layers", f"BASE={base}"]
    variables += ["REGISTRY=localhost", f"IMAGES={' '.join(OURS)}"]
    command = ["make", "--no-print-directory", "images", *variables]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    tag = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    archives = []
    for name in OURS:
        service, dash, variant = name.partition("-")
        image = f"passerby/{service}:{tag}{dash}{variant}"
        archives.append(buildah.archive(f"localhost/{image}", _ARCHIVES, f"docker.io/{image}"))
    return archives


def fill_store(archives: list[Path]) -> None:
    """Imports what is not there yet."""
    listing = _STORE / "imported.json"
    wanted = sorted(file.name for file in archives)
    there = json.loads(listing.read_text()) if listing.exists() else []
    if there == wanted:
        return
    listing.unlink(missing_ok=True)
    missing = [file for file in archives if file.name not in there]
    with tempfile.TemporaryDirectory() as temporary:
        command = containerd_at(_STORE, Path(temporary), Path(temporary) / "cni")
        with running(*command):
            socket = Path(temporary) / "containerd.sock"
            wait_for(socket.exists, "containerd listens")
            for file in missing:
                import_into(socket, file)
    listing.write_text(json.dumps(wanted))


def give(layout: Layout, node: Node) -> None:
    """Puts all images into a node that has not started yet."""
    root = layout.containerd(node)
    root.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "--archive", "--link", _STORE, root)
    # What changes must be the node's own.
    for database in root.rglob("*.db"):
        if "snapshots" not in database.relative_to(root).parts:
            original = _STORE / database.relative_to(root)
            database.unlink()
            shutil.copy(original, database)
