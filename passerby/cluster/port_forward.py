"""Port-forward: a pod's port on loopback, for clients that need an address."""

import contextlib
import socket
import threading
from collections.abc import Iterator

from kubernetes import client
from kubernetes.stream import portforward

from passerby.cluster.access import Cluster, ClusterError

CHUNK = 65_536


@contextlib.contextmanager
def forwarded(cluster: Cluster, pod: str, port: int) -> Iterator[str]:
    """Yields `127.0.0.1:<port>`; each connection to it opens one of its own to the pod.

    Raises ClusterError if the cluster does not allow it.
    """
    # Find a refusal now: a client that connects later would only see its connection closed.
    _open_tunnel(cluster, pod, port).close()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(
            target=_accept, args=(listener, cluster, pod, port), daemon=True, name="port-forward"
        ).start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            # Closing alone would not wake the thread that is waiting for a connection.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def _open_tunnel(cluster: Cluster, pod: str, port: int) -> socket.socket:
    try:
        # A client of its own, as the package changes a client that opens a WebSocket.
        with client.ApiClient(cluster.api.configuration) as api:
            forward = client.CoreV1Api(api).connect_get_namespaced_pod_portforward
            tunnel: socket.socket = portforward(
                forward, pod, cluster.namespace, ports=str(port)
            ).socket(port)
    except client.ApiException as error:
        reason = str(error.reason).split(" -+-+- ")[0]
        raise ClusterError(
            f"no port-forward to {pod} ({reason}): ask for a role that may; `kubectl auth can-i "
            f"create pods/portforward -n {cluster.namespace}` checks for it"
        ) from error
    return tunnel


def _accept(listener: socket.socket, cluster: Cluster, pod: str, port: int) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # closed at the end of the `with` block
            return
        try:
            tunnel = _open_tunnel(cluster, pod, port)
        except ClusterError:  # the caller sees its connection closed
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
