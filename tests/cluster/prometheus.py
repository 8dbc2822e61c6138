"""The cluster's Prometheus: what it measures of a release, and which of its alerts fire."""

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.cluster.kubernetes import Kubernetes, Object
from tests.cluster.machine.shell import wait_for
from tests.cluster.release import Release, Values

MONITORED: Values = {"monitoring": {"serviceMonitor": True, "rules": True, "dashboard": True}}
# Of how many pods ours are the targets, and how long until the operator has told Prometheus so.
_KNOWN_WITHIN_S = 180
_POD = "/api/v1/namespaces/monitoring/pods/prometheus-tests-0:9090/proxy/api/v1"
_SELECTOR = re.compile(r"(?:passerby_\w+|kube_\w+|\bup)\{[^}]*\}")


@dataclass(frozen=True)
class Prometheus:
    """Asked about one release, through the API server."""

    release: Release

    def _ask(self, path: str, **parameters: str) -> Any:
        query = f"?{urlencode(parameters)}" if parameters else ""
        answer = json.loads(Kubernetes("monitoring").kubectl("get", "--raw", _POD + path + query))
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[Object]:
        """Series, each with its last value."""
        series: list[Object] = self._ask("/query", query=expression)["result"]
        return series

    def rules(self) -> list[Object]:
        """The release's alerts, as Prometheus has read and evaluated them."""
        groups: list[Object] = self._ask("/rules", type="alert")["groups"]
        return [rule for group in groups for rule in group["rules"] if self._is_ours(rule)]

    def firing(self) -> dict[str, str]:
        """Name -> summary; of several of one name the last."""
        return {
            alert["labels"]["alertname"]: alert["annotations"]["summary"]
            for rule in self.rules()
            for alert in rule["alerts"]
            if alert["state"] == "firing"
        }

    def watches(self) -> bool:
        """Whether it has read the release's rules, and each of the services' pods is a target."""
        pods = {
            pod["metadata"]["name"]
            for part in ("embedder", "indexer", "query")
            for pod in self.release.pods_of(part)
        }
        up = self.query(f'up{{namespace="{self.release.cluster.namespace}"}} == 1')
        evaluated = self.rules()
        return (
            pods <= {series["metric"].get("pod") for series in up}
            and bool(evaluated)
            and all(rule["health"] == "ok" for rule in evaluated)
        )

    def wait_until_it_watches(self) -> None:
        wait_for(self.watches, "Prometheus watches the release", _KNOWN_WITHIN_S)

    def _is_ours(self, rule: Object) -> bool:
        labels = rule["labels"]
        mine = self.release.cluster.namespace, self.release.name
        return (labels.get("namespace"), labels.get("release")) == mine


def selectors(expression: str) -> list[str]:
    """What an expression asks for, without what it makes of it."""
    return _SELECTOR.findall(expression)
