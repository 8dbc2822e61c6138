"""One release in one namespace: requests to the Kubernetes API, and its errors in plain words."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, cast

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

from passerby.errors import PasserbyError

TIMEOUT_S = 20
LOG_LINES = 2000


class ClusterError(PasserbyError):
    """The cluster does not answer or refuses; the message says what to do about it."""


@dataclass(frozen=True)
class Workload:
    """What makes pods of one kind."""

    kind: Literal["deployment", "statefulset"]
    item: Any
    """The object of the `kubernetes` package."""

    @property
    def name(self) -> str:
        """As kubectl takes it: deployment/passerby-query."""
        return f"{self.kind}/{self.item.metadata.name}"

    @property
    def pod(self) -> Any:
        """The spec of its pods."""
        return self.item.spec.template.spec


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

    def deployments(self) -> dict[str, Any]:
        """Component name -> Deployment of ours."""
        return {
            component(each.item): each.item
            for each in self.workloads()
            if each.kind == "deployment" and is_ours(each.item)
        }

    def workloads(self) -> list["Workload"]:
        """Every Deployment and StatefulSet of the release, those of Milvus and its stores too."""
        api = client.AppsV1Api(self.api)
        deployments = self._of_release("deployments", api.list_namespaced_deployment)
        stateful_sets = self._of_release("statefulsets", api.list_namespaced_stateful_set)
        return [
            *(Workload("deployment", item) for item in deployments),
            *(Workload("statefulset", item) for item in stateful_sets),
        ]

    def pods(self, of_component: str | None = None) -> list[Any]:
        """Every pod of the release, those of Milvus and its stores too; or one component's."""
        pods = self._of_release("pods", client.CoreV1Api(self.api).list_namespaced_pod)
        return [
            pod
            for pod in pods
            if of_component is None or (is_ours(pod) and component(pod) == of_component)
        ]

    def nodes(self) -> list[Any]:
        return self._list("nodes", client.CoreV1Api(self.api).list_node)

    def volume_claims(self) -> dict[str, Any]:
        """Name -> PersistentVolumeClaim, of the whole namespace."""
        api = client.CoreV1Api(self.api)
        claims = self._list(
            "persistentvolumeclaims",
            api.list_namespaced_persistent_volume_claim,
            self.namespace,
        )
        return {claim.metadata.name: claim for claim in claims}

    def storage_classes(self) -> dict[str, Any]:
        """Name -> StorageClass."""
        classes = self._list("storageclasses", client.StorageV1Api(self.api).list_storage_class)
        return {each.metadata.name: each for each in classes}

    def warnings(self) -> list[Any]:
        """The namespace's events of type Warning, the newest last."""
        events = self._list(
            "events",
            client.CoreV1Api(self.api).list_namespaced_event,
            self.namespace,
            field_selector="type=Warning",
        )
        return sorted(events, key=_when)

    def config_map(self, name: str) -> dict[str, str]:
        """Its keys and texts."""
        with self._request("get", "configmaps"):
            found = client.CoreV1Api(self.api).read_namespaced_config_map(
                name, self.namespace, _request_timeout=TIMEOUT_S
            )
        return dict(found.data or {})

    def log(self, pod: str, container: str, *, since_s: int) -> list[str]:
        """The lines that a container wrote within the last seconds, LOG_LINES at most."""
        with self._request("get", "pods/log"):
            text = client.CoreV1Api(self.api).read_namespaced_pod_log(
                pod,
                self.namespace,
                container=container,
                since_seconds=since_s,
                tail_lines=LOG_LINES,
                _request_timeout=TIMEOUT_S,
            )
        return str(text or "").splitlines()

    def _of_release(self, resource: str, call: Callable[..., Any]) -> list[Any]:
        """What is labelled with the release's name, in the one way or the other of its charts."""
        found = {}
        for label in ("app.kubernetes.io/instance", "release"):
            selector = f"{label}={self.release}"
            for item in self._list(resource, call, self.namespace, label_selector=selector):
                found[item.metadata.name] = item
        return list(found.values())

    def _list(
        self, resource: str, call: Callable[..., Any], *namespace: str, **selector: str
    ) -> list[Any]:
        with self._request("list", resource):
            return list(call(*namespace, _request_timeout=TIMEOUT_S, **selector).items)

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


def _when(event: Any) -> Any:
    series = event.series.last_observed_time if event.series else None
    return series or event.last_timestamp or event.event_time or event.metadata.creation_timestamp


def is_ours(item: Any) -> bool:
    """Whether an object is Passerby's own, and not Milvus' or one of its stores'."""
    return (item.metadata.labels or {}).get("app.kubernetes.io/part-of") == "passerby"


def component(item: Any) -> str:
    """What the chart calls this object: embedder, indexer, query, redis."""
    return str((item.metadata.labels or {}).get("app.kubernetes.io/component", ""))
