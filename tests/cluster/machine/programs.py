"""The programs of a cluster, built of their Go modules into a folder that is kept between runs.

No package registry here has them as binaries. Some ten minutes on two cores where Go's cache is
empty, seconds where only the programs are missing.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.machine.shell import Words, run

KUBERNETES = "1.34.4"
_MINOR = KUBERNETES.split(".")[1]
_GO = {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}


@dataclass(frozen=True)
class Program:
    """Programs of one module, or the one that `source` is."""

    module: str
    version: str
    packages: tuple[str, ...] = ()
    """Below the module; each is named after its folder."""
    name: str = ""
    """Of a single program whose folder is called otherwise."""
    stamps: tuple[str, ...] = ()
    """Variables that the linker sets."""
    source: str = ""
    """A main package of our own that imports the module."""


_KUBERNETES_VERSION = "k8s.io/component-base/version"
_HELM_VERSION = "helm.sh/helm/v3/pkg/chartutil"
# A cluster's DNS needs few of CoreDNS's plugins; all of them have three times as many modules.
_COREDNS = """
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
)

func main() {
	dnsserver.Directives = []string{"errors", "health", "ready", "cache", "kubernetes"}
	coremain.Run()
}
"""

PROGRAMS = (
    Program(
        "k8s.io/kubernetes",
        f"v{KUBERNETES}",
        (
            "cmd/kube-apiserver",
            "cmd/kube-controller-manager",
            "cmd/kube-proxy",
            "cmd/kube-scheduler",
            "cmd/kubectl",
            "cmd/kubelet",
        ),
        stamps=(
            f"{_KUBERNETES_VERSION}.gitVersion=v{KUBERNETES}",
            f"{_KUBERNETES_VERSION}.gitMajor=1",
            f"{_KUBERNETES_VERSION}.gitMinor={_MINOR}",
        ),
    ),
    Program("go.etcd.io/etcd/server/v3", "v3.6.8", (".",), name="etcd"),
    Program("github.com/coredns/coredns", "v1.14.7", name="coredns", source=_COREDNS),
    Program("sigs.k8s.io/metrics-server", "v0.8.0", ("cmd/metrics-server",)),
    # Enforces network policies. kube-network-policies would need the kernel's NFT_QUEUE.
    Program("github.com/cloudnativelabs/kube-router/v2", "v2.1.0", ("cmd/kube-router",)),
    Program(
        "helm.sh/helm/v3",
        "v3.22.0",
        ("cmd/helm",),
        # Otherwise it believes in Kubernetes 1.20 where it only renders.
        stamps=(f"{_HELM_VERSION}.k8sVersionMajor=1", f"{_HELM_VERSION}.k8sVersionMinor={_MINOR}"),
    ),
)

# Definitions of kinds that the chart can make objects of: module, version, file.
KINDS = (
    ("github.com/kedacore/keda/v2", "v2.21.0", "config/crd/bases/keda.sh_scaledobjects.yaml"),
    *(
        (
            "github.com/prometheus-operator/prometheus-operator",
            "v0.85.0",
            f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml",
        )
        for kind in ("servicemonitors", "prometheusrules")
    ),
    (
        "sigs.k8s.io/gateway-api",
        "v1.4.0",
        "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
    ),
)


def folder() -> Path:
    """Where the programs of these versions are, once they are built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    return cache / "passerby" / "cluster" / recipe


def build() -> Path:
    """The folder of the programs; they are built if they are not there."""
    target = folder()
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=target.parent, prefix="unfinished-"))
    try:
        for program in PROGRAMS:
            print(f"building {program.module} {program.version}", flush=True)
            _build(program, unfinished)
        (unfinished / "kinds").mkdir()
        for module, version, file in KINDS:
            shutil.copy(_source(module, version) / file, unfinished / "kinds")
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _build(program: Program, target: Path) -> None:
    """As a dependency of a module of our own that repeats the other's replacements: Go refuses to
    install a module that has some by its name."""
    packages = [f"{program.module}/{package}".removesuffix("/.") for package in program.packages]
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        (work / "go.mod").write_text(_go_mod(program))
        (work / "main.go").write_text(program.source or _importing(packages))
        # -e: main packages are no packages to import, which only matters to those who do.
        run("go", "mod", "tidy", "-e", cwd=work, env=_GO)
        stamps = " ".join(f"-X {stamp}" for stamp in program.stamps)
        into: Words = ["-ldflags", f"-s -w {stamps}", "-o", target / program.name]
        run("go", "build", *into, *(packages or ["."]), cwd=work, env=_GO)


def _source(module: str, version: str) -> Path:
    answer = run("go", "mod", "download", "-json", f"{module}@{version}")
    return Path(json.loads(answer)["Dir"])


def _importing(packages: list[str]) -> str:
    lines = "\n".join(f'\t_ "{package}"' for package in packages)
    return f"//go:build tools\n\npackage build\n\nimport (\n{lines}\n)\n"


def _go_mod(program: Program) -> str:
    theirs = (_source(program.module, program.version) / "go.mod").read_text()
    (go,) = re.findall(r"^go (\S+)$", theirs, re.MULTILINE)
    # Kubernetes replaces its own parts by folders that its module lacks, and publishes each as a
    # module of the same minor version.
    parts = re.findall(r"^\t?(?:replace )?(\S+) => \./staging/", theirs, re.MULTILINE)
    staging = program.version.replace("v1.", "v0.")
    lines = ["module build", f"go {go}", f"require {program.module} {program.version}"]
    lines += [f"replace {part} => {part} {staging}" for part in parts]
    return "\n".join(lines) + "\n"
