"""etcd, the API server, the controllers and the scheduler, on the first node."""

from pathlib import Path

from tests.cluster.machine.layout import SERVICES, Layout
from tests.cluster.machine.processes import Processes
from tests.cluster.machine.shell import Words, succeeds, wait_for


def start(layout: Layout, programs: Path, processes: Processes) -> None:
    master = layout.master
    # Nothing here survives a power cut anyway; without the waits for the disk it is up sooner.
    etcd: Words = ["--data-dir", layout.state / "etcd", "--unsafe-no-fsync", "--log-level", "warn"]
    processes.start("etcd", master, programs / "etcd", *etcd)
    processes.start("kube-apiserver", master, programs / "kube-apiserver", *_api_server(layout))
    kubectl: Words = [
        *master.enter,
        programs / "kubectl",
        f"--kubeconfig={layout.kubeconfig('admin')}",
    ]
    wait_for(lambda: succeeds(*kubectl, "get", "--raw", "/readyz"), "the API server is ready")
    files = layout.certificates
    controllers = [
        f"--kubeconfig={layout.kubeconfig('controller')}",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--root-ca-file={files}/ca.crt",
        f"--service-account-private-key-file={files}/accounts.key",
        f"--cluster-signing-cert-file={files}/ca.crt",
        f"--cluster-signing-key-file={files}/ca.key",
    ]
    program = "kube-controller-manager"
    processes.start(program, master, programs / program, *controllers)
    scheduler = [f"--kubeconfig={layout.kubeconfig('scheduler')}", "--leader-elect=false"]
    processes.start("kube-scheduler", master, programs / "kube-scheduler", *scheduler)


def _api_server(layout: Layout) -> list[str]:
    files = layout.certificates
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={layout.master.address}",
        f"--service-cluster-ip-range={SERVICES}",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        f"--client-ca-file={files}/ca.crt",
        f"--tls-cert-file={files}/apiserver.crt",
        f"--tls-private-key-file={files}/apiserver.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={files}/accounts.pub",
        f"--service-account-signing-key-file={files}/accounts.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={files}/admin.crt",
        f"--kubelet-client-key={files}/admin.key",
        # For the metrics server, which is an API server too.
        "--enable-aggregator-routing=true",
        f"--proxy-client-cert-file={files}/front-proxy.crt",
        f"--proxy-client-key-file={files}/front-proxy.key",
        f"--requestheader-client-ca-file={files}/ca.crt",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    ]
