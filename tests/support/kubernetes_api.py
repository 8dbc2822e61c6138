"""A stand-in for the Kubernetes API; proves neither real permissions, kubelets nor API versions.

What tests against it do prove: requests, their TLS and token, and how answers are read. It serves
the few paths that Passerby uses, with objects in the API's own JSON shape; a port-forward is the
API's WebSocket protocol (v4.channel.k8s.io), bridged to a real port on loopback. It does not
validate, schedule or run anything, and grants whatever is not in `forbidden`.
"""

import asyncio
import contextlib
import json
import ssl
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from aiohttp import WSMsgType, web

from passerby.cluster.access import Cluster

NAMESPACE, RELEASE, TOKEN = "people", "passerby", "a-token-of-the-operator"
KINDS = {
    "deployments": "Deployment",
    "statefulsets": "StatefulSet",
    "pods": "Pod",
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "configmaps": "ConfigMap",
    "events": "Event",
    "jobs": "Job",
    "nodes": "Node",
    "storageclasses": "StorageClass",
}

_PASSWORD = {"secretKeyRef": {"name": "passerby-redis", "key": "password"}}
# What the chart gives the indexer, as far as a push by a job needs it.
INDEXER_ENV: list[dict[str, Any]] = [
    {"name": "REDIS_PASSWORD", "valueFrom": _PASSWORD},
    {"name": "REDIS_URL", "value": "redis://passerby-redis:6379/0"},
    {"name": "MILVUS_TOKEN", "valueFrom": {"secretKeyRef": {"name": "milvus", "key": "token"}}},
]


def labels(component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/instance": RELEASE,
        "app.kubernetes.io/part-of": "passerby",
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/version": "0.1.0",
    }


def metadata(name: str, component: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"uid-of-{name}",
        "generation": 2,
        "labels": labels(component),
        "creationTimestamp": "2026-11-01T08:00:00Z",
    }


def workload(component: str, *, replicas: int = 2, ready: int = 2, gpus: int = 0) -> dict[str, Any]:
    """A Deployment, or with volume claims added a StatefulSet, as the API returns it."""
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {}
    container = {"name": component, "image": f"passerby/{component}:0.1.0", "resources": resources}
    status = {
        "observedGeneration": 2,
        "replicas": replicas,
        "updatedReplicas": ready,
        "readyReplicas": ready,
        "availableReplicas": ready,
    }
    return {
        "metadata": metadata(f"{RELEASE}-{component}", component),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels(component)},
            "serviceName": f"{RELEASE}-{component}",
            "template": {
                "metadata": {"labels": labels(component)},
                "spec": {"containers": [container]},
            },
        },
        "status": status if ready else {**status, "readyReplicas": None, "updatedReplicas": None},
    }


def pod(
    component: str, number: int = 0, *, waiting: str = "", pending: str = "", said: str = ""
) -> dict[str, Any]:
    """said: the termination message of the container that ran before."""
    well = not waiting and not pending
    state = {"running": {"startedAt": "2026-11-01T08:00:10Z"}}
    if waiting:
        state = {"waiting": {"reason": waiting, "message": f"image of {component}"}}
    conditions = [
        {"type": "Ready", "status": "True" if well else "False"},
        {
            "type": "PodScheduled",
            "status": "False" if pending else "True",
            **({"reason": "Unschedulable", "message": pending} if pending else {}),
        },
    ]
    status = {
        "name": component,
        "ready": well,
        "restartCount": 0,
        "image": f"passerby/{component}:0.1.0",
        "imageID": "",
        "state": state,
        "lastState": {
            "terminated": {"exitCode": 1, "reason": "Error", "message": said} if said else None
        },
    }
    return {
        "metadata": metadata(f"{RELEASE}-{component}-{number}", component),
        "spec": {"containers": [{"name": component}]},
        "status": {
            "phase": "Running" if well else "Pending",
            "conditions": conditions,
            "containerStatuses": [] if pending else [status],
        },
    }


def _pod_of(item: dict[str, Any]) -> dict[str, Any]:
    """A healthy pod of a workload."""
    template = item["spec"]["template"]
    made = pod(template["spec"]["containers"][0]["name"])
    named = made["metadata"] | {"name": f"{item['metadata']['name']}-0"}
    return made | {"metadata": named | {"labels": template["metadata"]["labels"]}}


def node(name: str, gpus: int) -> dict[str, Any]:
    allocatable = {"cpu": "16", "memory": "128Gi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    return {"metadata": {"name": name}, "status": {"allocatable": allocatable}}


def claim(name: str, phase: str = "Bound", storage_class: str | None = "local") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"storageClassName": storage_class},
        "status": {"phase": phase},
    }


def storage_class(
    name: str = "local", *, default: bool = True, waits: bool = True
) -> dict[str, Any]:
    """waits: for a pod that uses the claim, before it makes a volume."""
    is_default = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {
        "metadata": {"name": name, "annotations": is_default},
        "provisioner": f"example.com/{name}",
        "volumeBindingMode": "WaitForFirstConsumer" if waits else "Immediate",
    }


def warning(kind: str, name: str, reason: str, message: str) -> dict[str, Any]:
    """An event of type Warning."""
    return {
        "metadata": {"name": f"{name}.1", "namespace": NAMESPACE},
        "involvedObject": {"kind": kind, "name": name, "namespace": NAMESPACE},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": "2026-11-01T08:00:30Z",
    }


@dataclass
class KubernetesApi:
    """What the cluster holds; a test edits it before it asks."""

    objects: dict[str, list[dict[str, Any]]]
    forbidden: set[str] = field(default_factory=set)
    """Resources that the account may not use."""
    ports: dict[int, int] = field(default_factory=dict)
    """A pod's port -> the real one on loopback."""
    broken_tunnels: bool = False
    """Whether a port-forward ends in the middle of a frame."""
    logs: dict[str, str] = field(default_factory=dict)
    """A pod's name -> what it has logged."""
    created: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def healthy(cls, *, gpus: int = 1) -> "KubernetesApi":
        redis = workload("redis", replicas=1, ready=1)
        redis["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}}]
        (container,) = redis["spec"]["template"]["spec"]["containers"]
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        services = ("embedder", "indexer", "query")
        return cls(
            {
                "deployments": [
                    workload(name, gpus=gpus if name == "embedder" else 0) for name in services
                ],
                "statefulsets": [redis],
                "pods": [pod(name, i) for name in services for i in range(2)] + [pod("redis")],
                "nodes": [node("gpu-node", 4 if gpus else 0), node("cpu-node", 0)],
                "persistentvolumeclaims": [claim("data-passerby-redis-0")],
                "storageclasses": [storage_class()],
                "configmaps": [],
                "events": [],
                "jobs": [],
            }
        )

    @classmethod
    def installed(cls, rendered: Iterable[dict[str, Any]]) -> "KubernetesApi":
        """A healthy cluster that holds these objects of a chart, with one pod for each workload."""
        api = cls.healthy()
        resources = {kind: resource for resource, kind in KINDS.items()}
        api.objects |= {resource: [] for resource in ("deployments", "statefulsets", "pods")}
        for item in json.loads(json.dumps(list(rendered))):
            item["metadata"] |= {"namespace": NAMESPACE, "generation": 1}
            if item["kind"] in ("Deployment", "StatefulSet"):
                item["spec"]["replicas"] = 1
                for container in item["spec"]["template"]["spec"]["containers"]:
                    for given in (container.get("resources") or {}).values():
                        given |= {name: str(quantity) for name, quantity in given.items()}
                counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
                item["status"] = {"observedGeneration": 1} | dict.fromkeys(counts, 1)
                api.objects["pods"].append(_pod_of(item))
            if item["kind"] == "PersistentVolumeClaim":
                item |= {"status": {"phase": "Bound"}}
            if item["kind"] in ("Deployment", "StatefulSet", "ConfigMap", "PersistentVolumeClaim"):
                api.objects[resources[item["kind"]]].append(item)
        return api

    async def list_items(self, request: web.Request) -> web.Response:
        resource = request.match_info["resource"]
        if (refusal := self.refusal(request, resource)) is not None:
            return refusal
        items = self.objects[resource]
        selector = request.query.get("labelSelector", "")
        for condition in filter(None, selector.split(",")):
            key, _, value = condition.partition("=")
            items = [i for i in items if i["metadata"].get("labels", {}).get(key) == value]
        wanted = request.query.get("fieldSelector", "").partition("=")
        items = [i for i in items if not wanted[0] or i[wanted[0]] == wanted[2]]
        kind = f"{KINDS[resource]}List"
        return web.json_response({"kind": kind, "apiVersion": "v1", "items": items})

    async def get(self, request: web.Request) -> web.Response:
        resource, name = request.match_info["resource"], request.match_info["name"]
        if (refusal := self.refusal(request, resource)) is not None:
            return refusal
        for item in self.objects[resource]:
            if item["metadata"]["name"] == name:
                return web.json_response(item)
        return failure(404, "NotFound", f'{resource} "{name}" not found')

    async def log(self, request: web.Request) -> web.Response:
        if (refusal := self.refusal(request, "pods/log")) is not None:
            return refusal
        return web.Response(text=self.logs.get(request.match_info["name"], ""))

    async def create(self, request: web.Request) -> web.Response:
        resource = request.match_info["resource"]
        if (refusal := self.refusal(request, resource)) is not None:
            return refusal
        item = json.loads(await request.text())
        if any(i["metadata"]["name"] == item["metadata"]["name"] for i in self.objects[resource]):
            return failure(409, "AlreadyExists", f'{resource} "{item["metadata"]["name"]}"')
        self.objects[resource].append(item)
        self.created.append(item)
        return web.json_response(item, status=201)

    def refusal(self, request: web.Request, resource: str) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return failure(401, "Unauthorized", "Unauthorized")
        if resource in self.forbidden:
            message = f'{resource} is forbidden: User "operator" cannot use resource "{resource}"'
            return failure(403, "Forbidden", message)
        return None

    async def port_forward(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self.refusal(request, "pods/portforward")) is not None:
            return refusal
        port = int(request.query["ports"])
        if not self.broken_tunnels and port not in self.ports:
            return failure(404, "NotFound", f"nothing listens on {port}")
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        if self.broken_tunnels:
            await socket.send_bytes(b"\x00")
            return socket
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[port])
        for channel in (b"\x00", b"\x01"):
            await socket.send_bytes(channel + struct.pack("<H", port))

        async def to_client() -> None:
            while data := await reader.read(65_536):
                await socket.send_bytes(b"\x00" + data)
            await socket.close()

        back = asyncio.create_task(to_client())
        try:
            async for message in socket:
                if message.type == WSMsgType.BINARY:
                    writer.write(message.data[1:])
                    await writer.drain()
        finally:
            writer.close()
            back.cancel()
        return socket

    def application(self) -> web.Application:
        application = web.Application()
        for group in ("/api/v1", "/apis/apps/v1", "/apis/batch/v1"):
            scope = f"{group}/namespaces/{NAMESPACE}"
            application.router.add_get(scope + "/{resource}", self.list_items)
            application.router.add_get(scope + "/{resource:configmaps}/{name}", self.get)
            application.router.add_get(scope + "/pods/{name}/log", self.log)
            application.router.add_post(scope + "/{resource}", self.create)
        application.router.add_get("/api/v1/{resource:nodes}", self.list_items)
        classes = "/apis/storage.k8s.io/v1/{resource:storageclasses}"
        application.router.add_get(classes, self.list_items)
        forward = f"/api/v1/namespaces/{NAMESPACE}/pods/{{pod}}/portforward"
        application.router.add_get(forward, self.port_forward)
        return application


def failure(code: int, reason: str, message: str) -> web.Response:
    status = {"kind": "Status", "status": "Failure", "code": code, "reason": reason}
    return web.json_response(status | {"message": message}, status=code)


@contextlib.contextmanager
def serving(api: KubernetesApi, folder: Path) -> Iterator[Path]:
    """Serves the API over TLS on loopback; yields a kubeconfig for it."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(api.application(), shutdown_timeout=1)

    async def start() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        return int(runner.addresses[0][1])

    async def end() -> None:
        await runner.cleanup()
        # Connections that are closing do so in the loop's next rounds.
        await asyncio.sleep(0.05)

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(kubeconfig_for(port, ca_file)))
    try:
        yield kubeconfig
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def connected(api: KubernetesApi, folder: Path, release: str = RELEASE) -> Iterator[Cluster]:
    """A client of the served API."""
    with (
        serving(api, folder) as kubeconfig,
        Cluster.connect(namespace=None, release=release, kubeconfig=kubeconfig) as cluster,
    ):
        yield cluster


def kubeconfig_for(port: int, ca_file: Path) -> dict[str, Any]:
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(ca_file)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "operator", "user": {"token": TOKEN}}],
        "contexts": [
            {
                "name": "test",
                "context": {"cluster": "test", "user": "operator", "namespace": NAMESPACE},
            }
        ],
    }
