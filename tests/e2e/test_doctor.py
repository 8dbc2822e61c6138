"""The doctor at a release that works, through a port-forward to the running services."""

import json
import os
import subprocess
import sys
from pathlib import Path

from deploy.local.stack import Stack
from tests.support.kubernetes_api import KubernetesApi, serving


def test_a_healthy_release_passes_with_a_search_through_the_port_forward(
    stack: Stack, people_gallery: str, tmp_path: Path
) -> None:
    api = KubernetesApi.healthy()
    api.ports |= {50052: stack.ports.query, 50053: stack.ports.indexer}
    command = [str(Path(sys.executable).with_name("passerby")), "doctor", "--json"]
    with serving(api, tmp_path) as kubeconfig:
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done
    findings = json.loads(done.stdout)
    assert not [row for row in findings if row["verdict"] == "failed"]
    searched = [row["detail"] for row in findings if row["check"] == "search"]
    assert any(detail.startswith(f"{people_gallery}: 1200 images") for detail in searched)
    assert {row["check"] for row in findings} >= {
        *("release", "rollouts", "pods", "claims", "data", "gpu", "dependencies", "queue"),
    }
