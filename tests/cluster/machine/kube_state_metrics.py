#!/usr/bin/env python3
"""What kube-state-metrics measures of Deployments, as far as the alerts ask; runs in a pod.

Its module cannot be had from Go's proxy here. It asks the API server at each scrape.
"""

import json
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEPLOYMENTS = "https://kubernetes.default.svc/apis/apps/v1/deployments"


def deployments() -> list[dict[str, Any]]:
    token = (ACCOUNT / "token").read_text()
    request = Request(DEPLOYMENTS, headers={"Authorization": f"Bearer {token}"})
    trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urlopen(request, timeout=5, context=trusted) as answer:
        items: list[dict[str, Any]] = json.load(answer)["items"]
    return items


def lines(items: list[dict[str, Any]]) -> Iterator[str]:
    for item in items:
        meta = item["metadata"]
        labels = f'namespace="{meta["namespace"]}",deployment="{meta["name"]}"'
        available = item["status"].get("availableReplicas", 0)
        yield f"kube_deployment_spec_replicas{{{labels}}} {item['spec']['replicas']}"
        yield f"kube_deployment_status_replicas_available{{{labels}}} {available}"


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = "".join(f"{line}\n" for line in lines(deployments()))
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(text.encode())


if __name__ == "__main__":
    ThreadingHTTPServer(("", 8080), Metrics).serve_forever()
