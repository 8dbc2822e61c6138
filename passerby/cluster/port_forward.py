"""A pod's port on loopback, for clients that want an address."""

import contextlib
import socket
import threading
from collections.abc import Iterator

from kubernetes import client
from kubernetes.stream import portforward

from passerby.cluster.access import Cluster

CHUNK = 65_536


@contextlib.contextmanager
def forwarded(cluster: Cluster, pod: str, port: int) -> Iterator[str]:
    """Yields `127.0.0.1:<port>`; each connection to it reaches the pod by one of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(
            target=_accept, args=(listener, cluster, pod, port), daemon=True, name="port-forward"
        ).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def _accept(listener: socket.socket, cluster: Cluster, pod: str, port: int) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # closed: the context is left
            return
        core = client.CoreV1Api(client.ApiClient(cluster.api.configuration))
        try:
            tunnel = portforward(
                core.connect_get_namespaced_pod_portforward,
                pod,
                cluster.namespace,
                ports=str(port),
            ).socket(port)
        except client.ApiException:  # the caller sees its connection closed
            connection.close()
            continue
        tunnel.setblocking(True)
        for source, sink in ((connection, tunnel), (tunnel, connection)):
            threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):  # either side may close at any time
        while data := source.recv(CHUNK):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
