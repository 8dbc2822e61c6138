"""The group of processes that a node's containers live in, one in each hierarchy (cgroup v1)."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.machine.layout import Node

HIERARCHIES = Path("/sys/fs/cgroup")


def _hierarchies() -> Iterator[Path]:
    """That of v2 too, which has no controllers beside the others: containerd makes groups there."""
    for folder in HIERARCHIES.iterdir():
        if (folder / "cgroup.procs").exists():
            yield folder


def make(node: Node) -> None:
    """Two kubelets on one machine need a root each, which they do not make themselves."""
    for hierarchy in _hierarchies():
        group = hierarchy / node.namespace
        group.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / name).exists():
                # A new group may use no processor at all until it is told.
                (group / name).write_text((hierarchy / name).read_text())


def remove(node: Node) -> None:
    """Kills what is in it, and takes it away."""
    for hierarchy in _hierarchies():
        deadline = time.monotonic() + 10
        while (group := hierarchy / node.namespace).exists():
            _empty(group)
            with contextlib.suppress(OSError):
                for folder, _, _ in os.walk(group, topdown=False):
                    Path(folder).rmdir()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{group} is still in use")
            time.sleep(0.05)


def kill(node: Node) -> None:
    """Kills all that runs in the node's containers."""
    for hierarchy in _hierarchies():
        _empty(hierarchy / node.namespace)


def _empty(group: Path) -> None:
    for file in group.rglob("cgroup.procs"):
        with contextlib.suppress(OSError):
            for number in map(int, file.read_text().split()):
                os.kill(number, signal.SIGKILL)
