"""A real Kubernetes on one machine, as root: two nodes, each in a network namespace of its own.

Nothing leaves the namespaces: they have no way out.
"""

import contextlib
import os
import shutil
import sys
from pathlib import Path

from tests.cluster.machine import certificates, cgroups, control_plane, images, network, node
from tests.cluster.machine.layout import Layout, Node
from tests.cluster.machine.processes import Processes
from tests.cluster.machine.shell import CommandFailed, Words, run, wait_for
from tests.support.processes import REPOSITORY

_ADDONS = Path(__file__).with_name("addons.yaml")


class Machine:
    """The cluster of that layout, of those programs."""

    def __init__(self, layout: Layout, programs: Path) -> None:
        self.layout = layout
        self.programs = programs
        self.processes = Processes(layout, programs)

    @property
    def is_up(self) -> bool:
        return self._ready_nodes() == len(self.layout.nodes)

    @property
    def environment(self) -> dict[str, str]:
        """What kubectl and Helm need to find the cluster, and a shell to find them."""
        return {
            "KUBECONFIG": str(self.layout.kubeconfig("admin")),
            "PATH": f"{self.programs}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "CLUSTER": self.layout.name,
            # Helm's own files.
            "HELM_CACHE_HOME": str(self.layout.state / "helm"),
            "HELM_CONFIG_HOME": str(self.layout.state / "helm"),
            "HELM_DATA_HOME": str(self.layout.state / "helm"),
        }

    def kubectl(self, *words: str | Path) -> str:
        master = self.layout.master
        return run(*master.enter, self.programs / "kubectl", *words, env=self.environment)

    def up(self) -> None:
        """Starts everything; the images must be in the store. Some 20 seconds."""
        self.down()
        network.make(self.layout)
        certificates.make(self.layout)
        control_plane.start(self.layout, self.programs, self.processes)
        for one in self.layout.nodes:
            images.give(self.layout, one)
            node.start(self.layout, one, self.programs, self.processes)
        wait_for(lambda: self.is_up, "both nodes are ready")
        for one in self.layout.nodes:
            node.enforce_policies(self.layout, one, self.programs, self.processes)
        self.kubectl("apply", "-f", _ADDONS)
        self.kubectl("apply", "--server-side", "-f", self.programs / "kinds")
        self._start_provisioner()
        for addon in ("coredns", "metrics-server"):
            self.kubectl("-n", "kube-system", "rollout", "status", f"deployment/{addon}")

    def _start_provisioner(self) -> None:
        command: Words = [
            sys.executable,
            "-m",
            "tests.cluster.machine.provisioner",
            self.layout.volumes,
        ]
        environment = {**self.environment, "PYTHONPATH": str(REPOSITORY)}
        self.processes.start("provisioner", self.layout.master, *command, **environment)

    def _ready_nodes(self) -> int:
        with contextlib.suppress(CommandFailed):
            return self.kubectl("get", "nodes", "--no-headers").count(" Ready")
        return 0

    def load(self, archive: Path) -> None:
        for one in self.layout.nodes:
            node.import_into(self.layout.socket(one), archive)

    def kill_node(self, one: Node) -> None:
        """As a power cut: no goodbye to the API server, and every connection is gone."""
        network.silence(self.layout, one)
        self.processes.end(node.names(one), at_once=True)
        cgroups.kill(one)
        self.processes.end_shims(one)
        network.mend(self.layout, one)

    def start_node(self, one: Node) -> None:
        """After `kill_node`."""
        node.start(self.layout, one, self.programs, self.processes)
        wait_for(lambda: self.is_up, f"{one.name} is ready")
        node.enforce_policies(self.layout, one, self.programs, self.processes)

    def down(self) -> None:
        """Takes everything away; does nothing where nothing is left. Raises RuntimeError else."""
        self.processes.end()
        for one in self.layout.nodes:
            cgroups.remove(one)
            self.processes.end_shims(one)
        for mount in reversed(self._mounts()):
            run("umount", "--lazy", mount)
        network.remove(self.layout)
        if left := [*self._mounts(), *self.processes.leftovers()]:
            raise RuntimeError(f"still there after {self.layout.name} was ended: {left}")
        if self.layout.state.exists():
            shutil.rmtree(self.layout.state)

    def _mounts(self) -> list[str]:
        places = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        return [place for place in places if place.startswith(f"{self.layout.state}/")]
