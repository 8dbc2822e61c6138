"""One node's programs: containerd, the kubelet, kube-proxy, and who enforces network policies."""

import json
from pathlib import Path
from typing import Any

from tests.cluster.machine import cgroups
from tests.cluster.machine.layout import DNS_SERVICE, PODS, SERVICES, Layout, Node
from tests.cluster.machine.processes import Processes
from tests.cluster.machine.shell import run, wait_for

PAUSE = "localhost/passerby/pause:1"
_CONTAINERD = """\
version = 2
root = "{root}"
state = "{run}"
[grpc]
  address = "{run}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""
AGENTS = ("containerd", "kubelet", "kube-proxy", "kube-router")


def names(node: Node) -> list[str]:
    """Of its processes."""
    return [f"{agent}-{node.name}" for agent in AGENTS]


def start(layout: Layout, node: Node, programs: Path, processes: Processes) -> None:
    """All but the one for policies, which ends at once where the API knows no such node yet."""
    _start_containerd(layout, node, processes)
    cgroups.make(node)
    config = layout.run_folder(node) / "kubelet.yaml"
    config.write_text(json.dumps(_kubelet(layout, node)))
    root = layout.state / "kubelet" / node.name
    processes.start(
        f"kubelet-{node.name}",
        node,
        programs / "kubelet",
        f"--config={config}",
        f"--kubeconfig={layout.kubeconfig(node.name)}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        f"--node-labels=topology.kubernetes.io/zone=zone-{node.number}",
        f"--root-dir={root}",
        f"--cert-dir={root}/certificates",
    )
    processes.start(
        f"kube-proxy-{node.name}",
        node,
        programs / "kube-proxy",
        f"--kubeconfig={layout.kubeconfig('proxy')}",
        f"--hostname-override={node.name}",
        f"--cluster-cidr={PODS}",
        "--proxy-mode=iptables",
        # These belong to the whole machine.
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0s",
        "--conntrack-tcp-timeout-close-wait=0s",
    )


def enforce_policies(layout: Layout, node: Node, programs: Path, processes: Processes) -> None:
    processes.start(
        f"kube-router-{node.name}",
        node,
        programs / "kube-router",
        f"--kubeconfig={layout.kubeconfig('admin')}",
        f"--hostname-override={node.name}",
        f"--service-cluster-ip-range={SERVICES}",
        "--run-firewall=true",
        "--run-router=false",
        "--run-service-proxy=false",
        "--run-loadbalancer=false",
        "--enable-cni=false",
        "--iptables-sync-period=1m",
        NODE_NAME=node.name,
    )


def import_into(socket: Path, archive: Path) -> None:
    """Puts the images of an archive into the containerd that listens there."""
    run("ctr", "--address", socket, "--namespace", "k8s.io", "images", "import", archive)


def containerd_at(root: Path, run_folder: Path, cni: Path) -> list[str | Path]:
    """The command of a containerd that keeps its images at `root`."""
    for folder in (root, run_folder, cni):
        folder.mkdir(parents=True, exist_ok=True)
    config = run_folder / "containerd.toml"
    config.write_text(_CONTAINERD.format(root=root, run=run_folder, cni=cni, pause=PAUSE))
    return ["containerd", "--log-level", "warn", "--config", config]


def _start_containerd(layout: Layout, node: Node, processes: Processes) -> None:
    cni = layout.state / "cni" / node.name
    socket = layout.socket(node)
    command = containerd_at(layout.containerd(node), socket.parent, cni)
    (cni / "10-pods.conflist").write_text(json.dumps(_pod_network(layout, node)))
    socket.unlink(missing_ok=True)  # of a node that was killed
    processes.start(f"containerd-{node.name}", node, *command)
    wait_for(socket.exists, f"containerd of {node.name} listens")


def _pod_network(layout: Layout, node: Node) -> dict[str, Any]:
    addresses = {
        "type": "host-local",
        "dataDir": str(layout.state / "addresses" / node.name),
        "ranges": [[{"subnet": node.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": addresses,
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}


def _kubelet(layout: Layout, node: Node) -> dict[str, Any]:
    files = layout.certificates
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "x509": {"clientCAFile": f"{files}/ca.crt"},
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{files}/{node.name}-serving.crt",
        "tlsPrivateKeyFile": f"{files}/{node.name}-serving.key",
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS_SERVICE],
        "resolvConf": "",
        "containerRuntimeEndpoint": f"unix://{layout.socket(node)}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.namespace}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "evictionHard": {
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "memory.available": "100Mi",
        },
        # Nobody could pull them again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": 60,
        "serializeImagePulls": False,
        "podLogsDir": str(layout.state / "logs" / node.name),
        "volumePluginDir": str(layout.state / "plugins" / node.name),
    }
