"""kubectl and Helm in one namespace of the cluster of KUBECONFIG."""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.machine.shell import CommandFailed, run, wait_for

Object = dict[str, Any]


@dataclass(frozen=True)
class Kubernetes:
    """Commands are given as people type them, without the namespace."""

    namespace: str

    def kubectl(self, *words: str | Path | int, stdin: str = "") -> str:
        return run("kubectl", "-n", self.namespace, *words, stdin=stdin)

    def helm(self, *words: str | Path | int, stdin: str = "") -> str:
        return run("helm", "-n", self.namespace, *words, stdin=stdin)

    def get(self, what: str, *words: str) -> Object:
        """One object by `kind/name`, or a list of a kind with words that select."""
        answer: Object = json.loads(self.kubectl("get", what, *words, "-o", "json"))
        return answer

    def apply(self, *items: Object) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(items)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(listed))

    def pods(self, selector: str) -> list[Object]:
        """Those that are not on their way out."""
        items: list[Object] = self.get("pods", "-l", selector)["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def rolled_out(self, workload: str, timeout_s: int = 300) -> None:
        """workload: `deployment/name` or `statefulset/name`."""
        self.kubectl("rollout", "status", workload, f"--timeout={timeout_s}s")

    def python(self, where: str, script: Path, *words: str) -> str:
        """What a script prints that runs in a pod, which has our packages. where: as exec's."""
        command = ["python", "-c", script.read_text(), *words]
        return self.kubectl("exec", where, "--", *command)

    @contextlib.contextmanager
    def forwarded(self, service: str, *ports: int) -> Iterator[None]:
        """The service's ports are also this machine's, meanwhile."""
        command = ["kubectl", "-n", self.namespace, "port-forward", f"service/{service}"]
        with subprocess.Popen(
            [*command, *map(str, ports)], stdout=subprocess.PIPE, text=True
        ) as forward:
            assert forward.stdout
            try:
                for _ in ports:
                    assert "Forwarding from" in forward.stdout.readline()
                yield
            finally:
                forward.terminate()


@contextlib.contextmanager
def namespace(name: str, labels: Mapping[str, str] | None = None) -> Iterator[Kubernetes]:
    """A new one, which is taken away at the end with all that is in it."""
    cluster = Kubernetes(name)
    with contextlib.suppress(CommandFailed):  # of a run that was cut off
        cluster.kubectl("delete", "namespace", name, "--wait", "--timeout=120s")
    cluster.kubectl("create", "namespace", name)
    for key, value in (labels or {}).items():
        cluster.kubectl("label", "namespace", name, f"{key}={value}")
    # Pods of a namespace without it are refused, and the controller that makes it may be late.
    wait_for(lambda: "default" in cluster.kubectl("get", "serviceaccounts"), f"accounts of {name}")
    try:
        yield cluster
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait", "--timeout=300s")


def seconds_since(start: float) -> float:
    return time.monotonic() - start
