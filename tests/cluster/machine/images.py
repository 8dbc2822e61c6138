"""All images of the cluster, and a containerd that already holds them.

Each node starts with that one's files (as hard links, as layers never change), so that the five
gigabytes of the embedder are unpacked once for all nodes and runs.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from deploy.helm.reference import CHART
from tests.cluster.machine import buildah, stand_ins
from tests.cluster.machine.buildah import Image
from tests.cluster.machine.layout import STORE, Layout, Node
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


def make(programs: Path) -> list[Image]:
    """Everything that runs in the cluster, but for real images; what did not change is not made
    again."""
    stand_ins.make(PAUSE)
    addons = [static(programs / name) for name in ("coredns", "metrics-server")]
    dependencies = [] if REAL_IMAGES else [stand_ins.VALKEY, stand_ins.MILVUS]
    for name in dependencies:
        stand_ins.make(base_image.NAME)
        stand_ins.make(name)
    return [*addons, *(Image(name, name) for name in (PAUSE, *dependencies)), *ours()]


def static(program: Path) -> Image:
    """An image of one program that needs no other file."""
    place, image = f"/bin/{program.name}", f"localhost/passerby/{program.name}"
    recipe = f"{image}:{program.parent.name}"
    if not buildah.exists(recipe):
        buildah.commit(recipe, "scratch", {program: place}, entrypoint=place)
    return Image(recipe, f"{image}:1")


def ours() -> list[Image]:
    """Built by the target that people use, of this checkout."""
    base = BASE or base_image.NAME
    if not BASE:
        stand_ins.make(base)
    variables = ["BUILDER=buildah", "BUILD_FLAGS=--isolation chroot --layers", f"BASE={base}"]
    variables += ["REGISTRY=localhost", f"IMAGES={' '.join(OURS)}"]
    command = ["make", "--no-print-directory", "images", *variables]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    tag = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    made = []
    for name in OURS:
        service, dash, variant = name.partition("-")
        image = f"passerby/{service}:{tag}{dash}{variant}"
        made.append(Image(f"localhost/{image}", f"docker.io/{image}"))
    return made


def fill_store(images: Sequence[Image]) -> None:
    """Imports what is not there yet."""
    listing = STORE / "imported.json"
    there = json.loads(listing.read_text()) if listing.exists() else {}
    wanted = {image.called: image.digest for image in images}
    real = {str(file): file.stat().st_mtime for file in Path(REAL_IMAGES or "/none").glob("*.tar")}
    if there == wanted | real:
        return
    listing.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        command = containerd_at(STORE, Path(temporary), Path(temporary) / "cni")
        with running(*command):
            socket = Path(temporary) / "containerd.sock"
            wait_for(socket.exists, "containerd listens")
            for image in images:
                if there.get(image.called) != image.digest:
                    import_image(socket, image)
            for file in real:
                import_into(socket, Path(file))
    listing.write_text(json.dumps(wanted | real))


def import_image(socket: Path, image: Image) -> None:
    """Into the containerd that listens there."""
    with image.archive() as file:
        import_into(socket, file)


def give(layout: Layout, node: Node) -> None:
    """Puts all images into a node that has not started yet."""
    root = layout.containerd(node)
    root.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "--archive", "--link", STORE, root)
    # What changes must be the node's own.
    for database in root.glob("*/*.db"):
        database.unlink()
        shutil.copy(STORE / database.relative_to(root), database)
