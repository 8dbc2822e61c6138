"""The programs of a cluster, and of what only a few scenarios need in it.

On two cores, where Go's cache is empty, those of every cluster take some ten minutes, Prometheus as
long again; seconds where only the programs are missing.
"""

from tests.cluster.machine.recipes import Program, Recipe

KUBERNETES = "1.34.4"
_MINOR = KUBERNETES.split(".")[1]
_PROMETHEUS_OPERATOR = ("github.com/prometheus-operator/prometheus-operator", "v0.85.0")
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

_PROGRAMS = (
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
_KINDS = (
    ("github.com/kedacore/keda/v2", "v2.21.0", "config/crd/bases/keda.sh_scaledobjects.yaml"),
    *(
        (
            *_PROMETHEUS_OPERATOR,
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

CLUSTER = Recipe(_PROGRAMS, _KINDS)
PROMETHEUS = Recipe(
    (
        Program(
            "github.com/prometheus/prometheus",
            "v0.316.0",  # 3.16.0, as programs count
            ("cmd/prometheus",),
            # The clouds that it could ask for targets are most of its modules.
            tags="remove_all_sd,enable_kubernetes_sd",
        ),
        Program(*_PROMETHEUS_OPERATOR, ("cmd/operator",), name="prometheus-operator"),
        Program(*_PROMETHEUS_OPERATOR, ("cmd/prometheus-config-reloader",)),
    ),
    ((*_PROMETHEUS_OPERATOR, "example/prometheus-operator-crd/*.yaml"),),
)
