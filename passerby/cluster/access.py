"""One release in one namespace: requests to the Kubernetes API, and its errors in plain words."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

from passerby.errors import PasserbyError

TIMEOUT_S = 20
PART_OF = "app.kubernetes.io/part-of=passerby"


class ClusterError(PasserbyError):
    """The cluster does not answer or refuses; the message says what to do about it."""


@dataclass(frozen=True)
class Cluster:
    """Lists what belongs to a release, as objects of the `kubernetes` package.

    Every method raises ClusterError.
    """

    api: client.ApiClient
    namespace: str
    release: str

    @classmethod
    @contextlib.contextmanager
    def connect(
        cls,
        *,
        namespace: str | None,
        release: str,
        context: str | None = None,
        kubeconfig: Path | None = None,
    ) -> Iterator["Cluster"]:
        """Connects as the kubeconfig says. Raises ClusterError."""
        configuration = client.Configuration()
        file = str(kubeconfig or config.KUBE_CONFIG_DEFAULT_LOCATION)
        try:
            loader = _loader(file, context)
            loader.load_and_set(configuration)
            default = loader.current_context.get("context", {}).get("namespace", "default")
        except config.ConfigException as error:
            raise ClusterError(
                f"no cluster to connect to ({error}): set KUBECONFIG or --kubeconfig, and --context"
            ) from error
        configuration.retries = urllib3.Retry(2, backoff_factor=0.2)
        with client.ApiClient(configuration) as api:
            yield cls(api, namespace or default, release)

    @property
    def _labels(self) -> str:
        return f"app.kubernetes.io/instance={self.release},{PART_OF}"

    def deployments(self) -> dict[str, Any]:
        """Component name -> Deployment."""
        with self._request("list", "deployments"):
            answer = client.AppsV1Api(self.api).list_namespaced_deployment(
                self.namespace, label_selector=self._labels, _request_timeout=TIMEOUT_S
            )
        return {component(item): item for item in answer.items}

    def stateful_sets(self) -> dict[str, Any]:
        """Component name -> StatefulSet."""
        with self._request("list", "statefulsets"):
            answer = client.AppsV1Api(self.api).list_namespaced_stateful_set(
                self.namespace, label_selector=self._labels, _request_timeout=TIMEOUT_S
            )
        return {component(item): item for item in answer.items}

    def pods(self, of_component: str | None = None) -> list[Any]:
        selector = self._labels
        if of_component:
            selector += f",app.kubernetes.io/component={of_component}"
        with self._request("list", "pods"):
            answer = client.CoreV1Api(self.api).list_namespaced_pod(
                self.namespace, label_selector=selector, _request_timeout=TIMEOUT_S
            )
        return list(answer.items)

    def nodes(self) -> list[Any]:
        with self._request("list", "nodes"):
            return list(client.CoreV1Api(self.api).list_node(_request_timeout=TIMEOUT_S).items)

    def volume_claims(self) -> list[Any]:
        with self._request("list", "persistentvolumeclaims"):
            answer = client.CoreV1Api(self.api).list_namespaced_persistent_volume_claim(
                self.namespace, _request_timeout=TIMEOUT_S
            )
        return list(answer.items)

    def plain(self, item: Any) -> dict[str, Any]:
        """An object of the `kubernetes` package in the API's JSON form."""
        return cast(dict[str, Any], self.api.sanitize_for_serialization(item))

    def create_job(self, manifest: dict[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        with self._request("create", "jobs"):
            try:
                client.BatchV1Api(self.api).create_namespaced_job(
                    self.namespace, cast(client.V1Job, manifest), _request_timeout=TIMEOUT_S
                )
            except ApiException as error:
                if error.status != HTTPStatus.CONFLICT:
                    raise
                raise ClusterError(
                    f"job {name} already exists, from the same command: `kubectl -n "
                    f"{self.namespace} get job {name}` shows its progress; delete it to push again"
                ) from error

    @contextlib.contextmanager
    def _request(self, verb: str, resource: str) -> Iterator[None]:
        try:
            yield
        except ApiException as error:
            if error.status == HTTPStatus.UNAUTHORIZED:
                raise ClusterError(
                    "the cluster does not accept these credentials: log in again; "
                    "`kubectl auth whoami` shows who you are"
                ) from error
            if error.status == HTTPStatus.FORBIDDEN:
                raise ClusterError(
                    f"no permission to {verb} {resource}: ask for a role that has it; `kubectl "
                    f"auth can-i {verb} {resource} -n {self.namespace}` checks for it"
                ) from error
            raise ClusterError(
                f"the cluster answered {error.status} {error.reason} to {verb} {resource}: "
                f"{_message(error)}"
            ) from error
        except urllib3.exceptions.HTTPError as error:
            raise ClusterError(
                f"{self.api.configuration.host} does not answer: is the cluster up, and the "
                "context the right one? (`kubectl config current-context`)"
            ) from error


def _loader(file: str, context: str | None) -> KubeConfigLoader:
    """The kubeconfig, perhaps of several files, at that context or at its current one."""
    merged = KubeConfigMerger(file).config
    if merged is None:
        raise config.ConfigException(f"no configuration in {file}")
    # Paths in a kubeconfig are relative to the file that they stand in.
    return KubeConfigLoader(merged, active_context=context, config_base_path=None)


def _message(error: ApiException) -> str:
    """The API's own words, where its answer has them."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.body or "no details")


def component(item: Any) -> str:
    """What the chart calls this object: embedder, indexer, query, redis."""
    return str((item.metadata.labels or {}).get("app.kubernetes.io/component", ""))
