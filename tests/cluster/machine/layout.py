"""What one cluster is called, where its nodes are, and which folders it keeps."""

import os
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.machine.shell import run

# Two clusters on one machine differ in their name; their addresses, in namespaces of their own,
# may be the same.
NAME = os.environ.get("CLUSTER", "passerby")
# On the disk, and not in the repository: containers' layers, volumes, etcd.
STATE = Path("/var/tmp/passerby-cluster")
# A containerd that no node runs on, with all images unpacked.
STORE = STATE / "store"
SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
PODS = "10.244.0.0/16"


@dataclass(frozen=True)
class Node:
    """A network namespace with a containerd, a kubelet and the agents of a node."""

    cluster: str
    number: int

    @property
    def name(self) -> str:
        """As Kubernetes knows it."""
        return f"node-{'ab'[self.number]}"

    @property
    def namespace(self) -> str:
        """Its network namespace, and its group of processes."""
        return f"{self.cluster}-{self.name}"

    @property
    def address(self) -> str:
        return f"198.18.0.{10 + self.number}"

    @property
    def pods(self) -> str:
        return f"10.244.{self.number}.0/24"

    @property
    def enter(self) -> list[str]:
        """In front of a command that runs there. (`ip netns exec` would mount another /sys,
        in which the kubelet finds no cgroups.)"""
        return ["nsenter", f"--net=/run/netns/{self.namespace}"]

    def run(self, *words: str | Path | int, stdin: str = "") -> str:
        return run(*self.enter, *words, stdin=stdin)


@dataclass(frozen=True)
class Layout:
    """Everything here follows from the name."""

    name: str

    @property
    def nodes(self) -> tuple[Node, Node]:
        return Node(self.name, 0), Node(self.name, 1)

    @property
    def master(self) -> Node:
        return self.nodes[0]

    @property
    def bridge(self) -> str:
        """The network namespace that joins the nodes."""
        return f"{self.name}-bridge"

    @property
    def state(self) -> Path:
        return STATE / self.name

    @property
    def certificates(self) -> Path:
        return self.state / "certificates"

    @property
    def volumes(self) -> Path:
        return self.state / "volumes"

    def kubeconfig(self, user: str) -> Path:
        return self.state / f"{user}.kubeconfig"

    def run_folder(self, node: Node) -> Path:
        """Sockets and configuration of the node's programs."""
        return self.state / "run" / node.name

    def containerd(self, node: Node) -> Path:
        """The node's images and containers."""
        return self.state / "containerd" / node.name

    def socket(self, node: Node) -> Path:
        return self.run_folder(node) / "containerd.sock"
