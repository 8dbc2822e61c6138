"""Port-forward: a pod's port on loopback, for clients that need an address."""

import contextlib
import socket
import threading
from collections.abc import Iterator

from kubernetes import client
from kubernetes.stream import portforward

from passerby.cluster.access import Cluster, ClusterError

CHUNK = 65_536
# What the package calls the threads that serve a tunnel; they end soon after both of its ends.
_LIBRARY = "Kubernetes port forward proxy"
_END_S = 1


@contextlib.contextmanager
def forwarded(cluster: Cluster, pod: str, port: int) -> Iterator[str]:
    """Yields `127.0.0.1:<port>`; each connection to it opens one of its own to the pod.

    Raises ClusterError if the cluster does not allow it.
    """
    with _quiet_ends():
        # Find a refusal now: a client that connects later would only see its connection closed.
        _open_tunnel(cluster, pod, port).close()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(
                target=_accept, args=(listener, cluster, pod, port), daemon=True
            ).start()
            try:
                yield f"127.0.0.1:{listener.getsockname()[1]}"
            finally:
                # Closing alone would not wake the thread that is waiting for a connection.
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _quiet_ends() -> Iterator[None]:
    """Keeps the package's threads from printing a traceback when a connection breaks.

    Either side may close at any time, and who waits for an answer learns of it in another way.
    """
    before = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if failure.thread is None or not failure.thread.name.startswith(_LIBRARY):
            before(failure)

    threading.excepthook = hook
    try:
        yield
    finally:
        for thread in threading.enumerate():
            if thread.name.startswith(_LIBRARY):
                thread.join(_END_S)
        threading.excepthook = before


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
        remedy = f"`kubectl -n {cluster.namespace} get pod {pod}` shows whether it is still there"
        if "403" in reason:
            remedy = (
                "ask for a role that may; `kubectl auth can-i create pods/portforward -n "
                f"{cluster.namespace}` checks for it"
            )
        raise ClusterError(f"no port-forward to {pod} ({reason}): {remedy}") from error
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
