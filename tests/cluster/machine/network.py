"""A network namespace for each node and a bridge between them, with no way out to anywhere."""

from tests.cluster.machine.layout import Layout, Node
from tests.cluster.machine.shell import run, succeeds


def make(layout: Layout) -> None:
    bridge = ["ip", "-netns", layout.bridge]
    run("ip", "netns", "add", layout.bridge)
    run(*bridge, "link", "add", "br0", "type", "bridge")
    run(*bridge, "link", "set", "br0", "up")
    for node in layout.nodes:
        run("ip", "netns", "add", node.namespace)
        cable = f"to-{node.name}"
        ends = ["type", "veth", "peer", "name", "eth0", "netns", node.namespace]
        run(*bridge, "link", "add", cable, *ends)
        run(*bridge, "link", "set", cable, "master", "br0", "up")
        _set_up(node)
    for node in layout.nodes:
        for other in layout.nodes:
            if other != node:
                node.run("ip", "route", "add", other.pods, "via", other.address)
                # Addresses of services need a route before kube-proxy rewrites them.
                node.run("ip", "route", "add", "default", "via", other.address)


def _set_up(node: Node) -> None:
    node.run("ip", "link", "set", "lo", "up")
    node.run("ip", "address", "add", f"{node.address}/24", "dev", "eth0")
    node.run("ip", "link", "set", "eth0", "up")
    for key in ("net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables"):
        node.run("sysctl", "-qw", f"{key}=1")


def silence(layout: Layout, node: Node) -> None:
    """Drops every packet to and from the node, as a cut cable does: nobody is told."""
    run("ip", "-netns", layout.bridge, "link", "set", f"to-{node.name}", "down")


def mend(layout: Layout, node: Node) -> None:
    run("ip", "-netns", layout.bridge, "link", "set", f"to-{node.name}", "up")


def remove(layout: Layout) -> None:
    for name in [layout.bridge, *(node.namespace for node in layout.nodes)]:
        succeeds("ip", "netns", "delete", name)
