"""The chart rendered for people who use kubectl alone."""

from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

PROFILES = sorted((Path(__file__).parent / "profiles").glob("*.yaml"))
RELEASE = "passerby"
SCALERS = ("HorizontalPodAutoscaler", "ScaledObject")
HEADER = """\
# The chart rendered for `kubectl -n {namespace} apply`, and for no other namespace. It takes
# Redis's password from a Secret; create that first:
#   kubectl -n {namespace} create secret generic passerby-redis-password --from-literal=password=...
---
"""


def values_of(profile: Path) -> dict[str, Any]:
    return helm.values_from_yaml(profile.read_text())


def manifests(
    folder: Path, values: dict[str, Any], namespace: str = "default"
) -> list[dict[str, Any]]:
    """The objects of a release called `passerby`, without those that only Helm runs (hooks).

    folder: the chart, with the Milvus chart among its charts or without Milvus's objects.
    namespace: where they are applied; alerts and some of Milvus's objects name it.

    A generated password would differ in every rendering, so Redis's comes from a Secret that is
    created by hand: `passerby-redis-password`.

    Where an autoscaler sets the number of pods, the Deployment names none: each `kubectl apply`
    would set it back.
    """
    redis = {**values.get("redis", {}), "existingSecret": f"{RELEASE}-redis-password"}
    # Loaded anew each time: rendering without a dependency takes it out of the chart in memory.
    with helm.Chart.load(folder) as chart:
        rendered = chart.render({**values, "redis": redis}, name=RELEASE, namespace=namespace)
    items = [
        item
        for path, text in sorted(rendered.items())
        if not path.endswith("NOTES.txt")
        for item in yaml.safe_load_all(text)
        # The Milvus chart writes `annotations:` with nothing below it, which is null.
        if item and "helm.sh/hook" not in (item["metadata"].get("annotations") or {})
    ]
    scaled = [item["spec"]["scaleTargetRef"]["name"] for item in items if item["kind"] in SCALERS]
    for item in items:
        if item["kind"] == "Deployment" and item["metadata"]["name"] in scaled:
            del item["spec"]["replicas"]
    return items
