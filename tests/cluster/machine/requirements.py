"""What this machine must have to be a cluster, and what to do about what is missing."""

import os
import shutil

from tests.cluster.machine.cgroups import HIERARCHIES
from tests.cluster.machine.layout import STATE, STORE
from tests.cluster.machine.shell import succeeds

# Debian's package -> one of its programs that is needed.
PACKAGES = {
    "buildah": "buildah",
    "conntrack": "conntrack",
    "containerd": "containerd",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "debootstrap": "debootstrap",
    "ebtables": "ebtables",
    "ethtool": "ethtool",
    "gcc": "gcc",
    "iproute2": "ip",
    "ipset": "ipset",
    "iptables": "iptables",
    "openssl": "openssl",
    "procps": "sysctl",
    "redis-server": "redis-server",
    "runc": "runc",
    "util-linux": "nsenter",
}
# The embedder's image with PyTorch's CUDA build, five times over while it is built and unpacked.
_FREE_GB = 30
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def missing_packages() -> list[str]:
    return [name for name, program in PACKAGES.items() if not shutil.which(program, path=_PATH)]


def _free_gb() -> int:
    return shutil.disk_usage(STATE.parent).free // 10**9


def obstacles() -> list[str]:
    """Why this machine cannot be a cluster; a sentence each."""
    found = []
    if os.geteuid() != 0:
        found.append("only root can make network namespaces and mounts: run it as root")
    elif not succeeds("unshare", "--net", "--mount", "true"):
        found.append("the kernel or a sandbox refuses network namespaces to root here")
    if not (HIERARCHIES / "memory").exists():
        found.append(
            "the kubelets are set up for cgroup v1, and this machine has v2 alone: "
            "name a cluster (kind, k3s, a cloud) in KUBECONFIG"
        )
    if not shutil.which("go"):
        found.append("the cluster's programs are built with Go 1.26 or newer: install Go")
    if not STORE.exists() and (free := _free_gb()) < _FREE_GB:
        found.append(f"building the images takes {_FREE_GB} GB of {STATE.parent}: {free} are free")
    if packages := missing_packages():
        found.append(f"install what is missing: apt-get install {' '.join(packages)}")
    return found
