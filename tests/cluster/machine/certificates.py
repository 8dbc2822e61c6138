"""A certificate authority of the cluster's own, and a kubeconfig for each who needs one."""

import base64
import json
from pathlib import Path

from tests.cluster.machine.layout import API_SERVICE, Layout
from tests.cluster.machine.shell import run

# Their user names are what Kubernetes' built-in roles are bound to.
_USERS = {
    "admin": "/O=system:masters/CN=admin",
    "scheduler": "/CN=system:kube-scheduler",
    "controller": "/CN=system:kube-controller-manager",
    "proxy": "/CN=system:kube-proxy",
}
_DAYS = "30"


def make(layout: Layout) -> None:
    folder = layout.certificates
    folder.mkdir(parents=True)
    run("openssl", "req", "-x509", *_key(folder / "ca"), "-out", folder / "ca.crt",
        "-days", _DAYS, "-subj", "/CN=cluster")  # fmt: skip
    api = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names = [f"DNS:{name}" for name in ("localhost", *api, f"{api[-1]}.cluster.local")]
    addresses = [f"IP:{a}" for a in ("127.0.0.1", API_SERVICE, layout.master.address)]
    _sign(folder, "apiserver", "/CN=kube-apiserver", ",".join([*names, *addresses]))
    _sign(folder, "front-proxy", "/CN=front-proxy")
    users = _USERS | {
        node.name: f"/O=system:nodes/CN=system:node:{node.name}" for node in layout.nodes
    }
    for node in layout.nodes:
        where = f"DNS:{node.name},IP:{node.address}"
        _sign(folder, f"{node.name}-serving", users[node.name], where)
    for user, subject in users.items():
        _sign(folder, user, subject)
        _kubeconfig(layout, user)
    run("openssl", "genrsa", "-out", folder / "accounts.key", "2048")
    run(
        "openssl", "rsa", "-in", folder / "accounts.key", "-pubout", "-out", folder / "accounts.pub"
    )


def _key(name: Path) -> list[str | Path]:
    return ["-newkey", "rsa:2048", "-nodes", "-keyout", name.with_suffix(".key")]


def _sign(folder: Path, name: str, subject: str, serves: str = "") -> None:
    """serves: names and addresses of a server; empty: the certificate is a client's."""
    file = folder / name
    request, extensions = file.with_suffix(".csr"), file.with_suffix(".ext")
    usage = f"subjectAltName={serves}" if serves else "extendedKeyUsage=clientAuth"
    extensions.write_text(f"{usage}\n")
    run("openssl", "req", *_key(file), "-out", request, "-subj", subject)
    run("openssl", "x509", "-req", "-in", request, "-CA", folder / "ca.crt",
        "-CAkey", folder / "ca.key", "-CAcreateserial", "-days", _DAYS,
        "-out", file.with_suffix(".crt"), "-extfile", extensions)  # fmt: skip


def _kubeconfig(layout: Layout, user: str) -> None:
    def data(file: str) -> str:
        return base64.b64encode((layout.certificates / file).read_bytes()).decode()

    server = f"https://{layout.master.address}:6443"
    credentials = {
        "client-certificate-data": data(f"{user}.crt"),
        "client-key-data": data(f"{user}.key"),
    }
    cluster = {"server": server, "certificate-authority-data": data("ca.crt")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "passerby",
        "clusters": [{"name": "passerby", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "passerby", "context": {"cluster": "passerby", "user": user}}],
    }
    layout.kubeconfig(user).write_text(json.dumps(config))
